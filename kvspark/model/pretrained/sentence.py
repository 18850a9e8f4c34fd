"""A sentence-transformers folder as a torch module: the network, and the modules behind it in their order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, final

import torch

from kvspark.errors import ModelError, UsageError
from kvspark.model.features.text import COLUMNS, TextFeatures, load_tokenizer, own_length
from kvspark.model.pretrained.folder import check_folder, check_keys, settings
from kvspark.model.pretrained.folder_keys import MODULES, SENTENCE, SETTINGS, SETTINGS_FILES
from kvspark.model.pretrained.positions import most_tokens
from kvspark.model.pretrained.prompt import Prompt, chosen_prompt, lower_case
from kvspark.model.pretrained.sentence_steps import LAYERS, TOKENS, Step, module_list, step_of
from kvspark.model.pretrained.sentence_steps import SENTENCE as EMBEDDING
from kvspark.model.pretrained.text_check import check_texts, reads_types
from kvspark.model.pretrained.transformer import load_transformer

_UNUSED = r"(\w+\.)*pooler\."
"""What BERT has for a task that no embedding is made by, and many folders leave out."""

_ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
}
"""Families of which the library runs the encoder only."""


def load_sentence_encoder(
    path: str | Path,
    *,
    max_length: int | None,
    prompt: Prompt | None = None,
    truncate_dim: int | None = None,
) -> tuple[SentenceEncoder, TextFeatures]:
    """The encoder and the tokenizer of the folder `path`, in eval mode.

    `prompt` and `truncate_dim` are the folder's own where they are left out.

    Raises:
        ModelError: the folder is not one of sentence-transformers, or holds a module, a file or a setting
            that is not applied; gives a text other tokens than the library.
        UsageError: `max_length` is more than the network has positions for, the prompt has no such name,
            or `truncate_dim` is more than an embedding has.
    """
    folder = Path(path)
    modules = _modules(folder)
    check_folder(folder)
    transformer = modules[0][1]
    if transformer != folder:
        check_folder(transformer)
    own = settings(folder / "config_sentence_transformers.json", SENTENCE)
    text = chosen_prompt(folder, own, prompt or Prompt())
    network: Any = _network(transformer)
    chosen = _settings(transformer)
    features, prompt_tokens = _features(
        transformer, network, max_length or chosen.get("max_seq_length"), text, chosen
    )
    if max_length is not None and features.max_length < max_length:
        raise UsageError(
            f"max_length {max_length} is more than the {features.max_length} tokens of {folder}"
        )
    encoder = SentenceEncoder(
        network,
        _steps(folder, modules[1:], network, prompt_tokens),
        takes_types=COLUMNS[2] in [spec.name for spec in features.outputs],
        truncate_dim=truncate_dim or own.get("truncate_dim"),
    ).eval()
    return encoder, features


def _steps(
    folder: Path, modules: Sequence[tuple[str, Path]], network: Any, prompt_tokens: int
) -> list[Step]:
    """The steps behind the network, each of which finds what it reads.

    Raises:
        ModelError: one does not, or none gives an embedding of the text.
    """
    steps: list[Step] = []
    known = {TOKENS, LAYERS} if getattr(network.config, "output_hidden_states", False) else {TOKENS}
    for kind, place in modules:
        step = step_of(kind, place, prompt_tokens=prompt_tokens)
        if step is None:
            continue
        if step.source not in known:
            raise ModelError(
                f"{place}: the {kind} module reads {step.source}, which nothing before it gives; there are "
                f"{', '.join(sorted(known))} (all_layer_embeddings where output_hidden_states of config.json is true)"
            )
        known.add(step.target)
        steps.append(step)
    if EMBEDDING not in known:
        raise ModelError(
            f"{folder / 'modules.json'}: no module gives {EMBEDDING}; expected a Pooling"
        )
    return steps


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """The kind and the folder of each module.

    Raises:
        ModelError: one has code of its own, or a setting that is not applied.
    """
    found: list[tuple[str, Path]] = []
    file = folder / "modules.json"
    modules = module_list(folder)
    for item in modules:
        check_keys(file, item, MODULES)
        kind = str(item.get("type"))
        place = PurePosixPath(str(item.get("path", "")))
        if place.is_absolute() or ".." in place.parts:
            raise ModelError(f"{file}: path {str(place)!r} leads out of the folder")
        name = kind.rsplit(".", 1)[-1]
        if not found and name != "Transformer":
            raise ModelError(
                f"{folder}: the first module is not a Transformer but a {kind}; build the module yourself "
                "and use Model.from_torch"
            )
        if not kind.startswith("sentence_transformers."):
            raise ModelError(
                f"{file}: type {kind!r} is code of the folder's own, which is never run; build the module "
                "yourself and use Model.from_torch"
            )
        found.append((name, folder / place))
    names = [item.get("name") for item in modules]
    if not found or len(set(map(str, names))) < len(names):
        raise ModelError(f"{file} names {'one module twice' if found else 'no modules'}")
    return found


def _network(folder: Path) -> Any:
    """The network, as the library loads it."""
    from kvspark.model.pretrained.transformer import CONFIG_FILE, read_json

    expected = "a folder that save_pretrained wrote"
    kind = read_json(folder / CONFIG_FILE, expected=expected).get("model_type")
    network: Any = load_transformer(folder, _ENCODERS.get(kind, "AutoModel"), unused=_UNUSED)
    # A folder may ask for tuples, whose parts have no names.
    network.config.return_dict = True
    return network


def _settings(folder: Path) -> dict[str, Any]:
    for name in SETTINGS_FILES:
        found = settings(folder / name, SETTINGS)
        if found:
            return found
    return {}


def _features(
    folder: Path, network: Any, length: int | None, prompt: str, chosen: dict[str, Any]
) -> tuple[TextFeatures, int]:
    """The features, and the tokens that the prompt is."""
    tokenizer = _tokenizer(folder, chosen)
    lowers = bool(chosen.get("do_lower_case"))
    places = getattr(network.config, "max_position_embeddings", None)
    if length is None:
        length = own_length(tokenizer)
        # XLNet says -1 for as many as there are.
        length = min(length, places) if isinstance(places, int) and places > 0 else length
    most = most_tokens(network)
    features = TextFeatures.from_tokenizer(
        tokenizer, max_length=min(length, most) if most else length
    )
    if reads_types(tokenizer, features, network):
        features = features.with_settings(columns=COLUMNS[:3])
    features, prompt_tokens = with_prompt(features, tokenizer, prompt)
    by_library = lowers or bool(prompt)
    check_texts(folder, tokenizer, features, network=network, prompt=prompt, by_library=by_library)
    return features, prompt_tokens


def sentence_tokenizer(path: str | Path) -> Any:
    """The tokenizer of the folder `path`, in lower case where its settings say so.

    Raises:
        ModelError: the folder is not one of sentence-transformers, or has no fast tokenizer.
    """
    transformer = _modules(Path(path))[0][1]
    return _tokenizer(transformer, _settings(transformer))


def _tokenizer(folder: Path, chosen: dict[str, Any]) -> Any:
    tokenizer = load_tokenizer(folder)
    if chosen.get("do_lower_case"):
        lower_case(tokenizer)
    return tokenizer


def with_prompt(features: TextFeatures, tokenizer: Any, prompt: str) -> tuple[TextFeatures, int]:
    """The features of texts behind `prompt`, and its tokens without a special one at its end."""
    if not prompt:
        return features, 0
    (ids,) = features.computation().run([[prompt]])[0]
    closing = len(ids) > 0 and int(ids[-1]) in tokenizer.all_special_ids
    return features.with_settings(prompt=prompt), len(ids) - closing


@final
class SentenceEncoder(torch.nn.Module):
    """Token ids in, one vector a text out.

    Shapes: input_ids, attention_mask: int64 (batch, length); result: float32 (batch, dimensions).
    """

    def __init__(
        self,
        transformer: torch.nn.Module,
        steps: Sequence[Step],
        *,
        takes_types: bool = False,
        truncate_dim: int | None = None,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.steps = torch.nn.ModuleList([step.module for step in steps])
        self._wires = [(step.source, step.target, step.takes_mask) for step in steps]
        self._takes_types = takes_types
        self._truncate_dim = truncate_dim

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        types = {"token_type_ids": token_type_ids} if self._takes_types else {}
        made = self.transformer(input_ids=input_ids, attention_mask=attention_mask, **types)
        values = {TOKENS: made.last_hidden_state}
        if any(source == LAYERS for source, _, _ in self._wires):
            values[LAYERS] = torch.stack(made.hidden_states)
        for (source, target, takes_mask), step in zip(self._wires, self.steps, strict=True):
            mask = (attention_mask,) if takes_mask else ()
            values[target] = step(values[source], *mask)
        vector = values[EMBEDDING]
        return {
            "embedding": vector if self._truncate_dim is None else vector[..., : self._truncate_dim]
        }
