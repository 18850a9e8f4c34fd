"""A sentence-transformers folder as a torch module: encoder, pooling, projections, normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch

from kvspark.errors import ModelError
from kvspark.model.text import TextFeatures
from kvspark.model.transformer import load_transformer, read_json

_UNUSED = r"(\w+\.)*pooler\."
"""What BERT has for a task that no embedding is made by, and many folders leave out."""

POOLINGS = ("cls", "mean", "max")
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def load_sentence_encoder(
    path: str | Path, *, max_length: int | None
) -> tuple[SentenceEncoder, TextFeatures]:
    """The encoder and the tokenizer of the folder `path`, in eval mode.

    Raises:
        ModelError: the folder is not one of sentence-transformers, or holds a module of another kind.
    """
    folder = Path(path)
    modules = _json(folder / "modules.json")
    steps = [(str(item["type"]).rsplit(".", 1)[-1], folder / item["path"]) for item in modules]
    if not steps or steps[0][0] != "Transformer":
        raise ModelError(
            f"{folder}: the first module is not a Transformer; save a bundle with from_torch"
        )
    transformer = steps[0][1]
    encoder = SentenceEncoder(
        load_transformer(transformer, "AutoModel", unused=_UNUSED), *_steps(steps[1:])
    ).eval()
    settings = _json(transformer / "sentence_bert_config.json", default={})
    length = max_length or settings.get("max_seq_length")
    features = TextFeatures.from_pretrained(transformer, max_length=length)
    return encoder, features


@final
class SentenceEncoder(torch.nn.Module):
    """Token ids in, one vector a text out.

    Shapes: input_ids, attention_mask: int64 (batch, length); result: float32 (batch, dimensions).
    """

    def __init__(
        self,
        transformer: torch.nn.Module,
        pooling: str,
        dense: torch.nn.Module,
        last: torch.nn.Module,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.dense = dense
        self._pooling = pooling
        self.last = last

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        hidden = self.transformer(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state
        return {"embedding": self.last(self.dense(_pooled(hidden, attention_mask, self._pooling)))}


@final
class _Normalise(torch.nn.Module):
    """Divides each vector by its length."""

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(vector, p=2.0, dim=1)


def _pooled(hidden: torch.Tensor, attention_mask: torch.Tensor, pooling: str) -> torch.Tensor:
    if pooling == "cls":
        return hidden[:, 0]
    mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
    if pooling == "max":
        return hidden.masked_fill(mask == 0, -1e9).max(dim=1).values
    # 1e-9 as in sentence-transformers: a text without tokens gives zeros, not NaN.
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1e-9)


def _steps(steps: list[tuple[str, Path]]) -> tuple[str, torch.nn.Module, torch.nn.Module]:
    pooling, dense = "mean", torch.nn.Sequential()
    last: torch.nn.Module = torch.nn.Identity()
    for kind, folder in steps:
        if kind == "Pooling":
            pooling = _pooling(_json(folder / "config.json"), folder)
        elif kind == "Dense" and not isinstance(last, _Normalise):
            dense.append(_dense(folder))
        elif kind == "Normalize":
            last = _Normalise()
        else:
            raise ModelError(
                f"{folder}: a {kind} module is not supported; expected Pooling, Dense, Normalize"
            )
    return pooling, dense, last


def _pooling(config: Mapping[str, Any], folder: Path) -> str:
    named = config.get("pooling_mode")
    modes = (
        [named]
        if isinstance(named, str)
        else [m for flag, m in _POOLING_FLAGS.items() if config.get(flag)]
    )
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ModelError(
            f"{folder}: pooling {', '.join(map(str, modes)) or 'none'}; expected one of {', '.join(POOLINGS)}"
        )
    return str(modes[0])


def _dense(folder: Path) -> torch.nn.Module:
    from safetensors.torch import load_file

    config = _json(folder / "config.json")
    layer = torch.nn.Linear(
        config["in_features"], config["out_features"], bias=config.get("bias", True)
    )
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise ModelError(
            f"{folder}: no model.safetensors; convert the folder with sentence-transformers >= 3"
        )
    state = load_file(weights)
    layer.load_state_dict({name.removeprefix("linear."): tensor for name, tensor in state.items()})
    activation = str(config.get("activation_function", "")).rsplit(".", 1)[-1]
    known = {
        "Identity": torch.nn.Identity,
        "Tanh": torch.nn.Tanh,
        "ReLU": torch.nn.ReLU,
        "GELU": torch.nn.GELU,
    }
    if activation not in known:
        raise ModelError(f"{folder}: activation {activation!r}; expected one of {', '.join(known)}")
    return torch.nn.Sequential(layer, known[activation]())


def _json(path: Path, default: Any = None) -> Any:
    return read_json(
        path, default, expected="a sentence-transformers folder or a bundle of kvspark"
    )
