"""What comes behind the network in a sentence-transformers folder: its other modules, as torch modules.

Each step reads one named value and writes one: `token_embeddings`, `all_layer_embeddings` or
`sentence_embedding`, as in the library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from kvspark.errors import ModelError
from kvspark.model.pretrained.folder import refused_key, settings
from kvspark.model.pretrained.folder_keys import (
    DENSE,
    DROPOUT,
    LAYER_NORM,
    LAYER_POOLING,
    NORMALIZE,
    POOLING,
)
from kvspark.model.pretrained.pooling import Pooling, pooling_modes
from kvspark.model.pretrained.transformer import read_json

TOKENS, LAYERS, SENTENCE = "token_embeddings", "all_layer_embeddings", "sentence_embedding"

_WEIGHTS = "model.safetensors"


@final
@dataclass(frozen=True, slots=True)
class Step:
    """A module, the value that it reads, and the one that it writes."""

    module: torch.nn.Module
    source: str
    target: str

    @property
    def takes_mask(self) -> bool:
        """True if the module also takes the mask of tokens."""
        return isinstance(self.module, Pooling)


def step_of(kind: str, folder: Path, *, prompt_tokens: int) -> Step | None:
    """The step that the module of type `kind` in `folder` is; None if it does nothing outside training.

    Raises:
        ModelError: it is of a kind, or has a setting, that is not applied.
    """
    file = folder / "config.json"
    if kind == "Pooling":
        values = settings(file, POOLING)
        excluded = 0 if values.get("include_prompt", True) else prompt_tokens
        return Step(Pooling(pooling_modes(values, file), excluded), TOKENS, SENTENCE)
    if kind == "Dense":
        values = settings(file, DENSE)
        return Step(_dense(folder, values), *_wires(values))
    if kind == "Normalize":
        values = settings(file, NORMALIZE) if file.exists() else {}
        return Step(_Normalise(), *_wires(values))
    if kind == "LayerNorm":
        values = settings(file, LAYER_NORM)
        norm = torch.nn.LayerNorm(int(values["dimension"]))
        _load(norm, folder, prefix="norm.")
        return Step(norm, SENTENCE, SENTENCE)
    if kind == "WeightedLayerPooling":
        values = settings(file, LAYER_POOLING)
        return Step(_layers(folder, values), LAYERS, TOKENS)
    if kind == "Dropout":
        settings(file, DROPOUT)
        return None
    raise ModelError(
        f"{folder}: a {kind} module is not applied; expected Pooling, Dense, Normalize, LayerNorm, "
        "WeightedLayerPooling or Dropout, else build the module yourself and use Model.from_torch"
    )


def _wires(values: Mapping[str, Any]) -> tuple[str, str]:
    source = str(values.get("module_input_name") or SENTENCE)
    return source, str(values.get("module_output_name") or source)


@final
class _Normalise(torch.nn.Module):
    """Divides each vector by its length."""

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(vector, p=2.0, dim=vector.dim() - 1)


@final
class _Residual(torch.nn.Module):
    """A dense layer whose input is added to what it gives."""

    def __init__(self, dense: torch.nn.Module, residual: torch.nn.Module) -> None:
        super().__init__()
        self.dense = dense
        self.residual = residual

    def forward(self, vector: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.dense(vector) + self.residual(vector)
        return made


def _dense(folder: Path, values: Mapping[str, Any]) -> torch.nn.Module:
    sizes = int(values["in_features"]), int(values["out_features"])
    parts = torch.nn.ModuleDict(
        {
            "linear": torch.nn.Linear(*sizes, bias=bool(values.get("bias", True))),
            "activation_function": _activation(folder / "config.json", values),
        }
    )
    if values.get("use_residual"):
        same = sizes[0] == sizes[1]
        parts["residual"] = torch.nn.Identity() if same else torch.nn.Linear(*sizes, bias=False)
    _load(parts, folder)
    dense = torch.nn.Sequential(parts["linear"], parts["activation_function"])
    return _Residual(dense, parts["residual"]) if "residual" in parts else dense


def _activation(file: Path, values: Mapping[str, Any]) -> torch.nn.Module:
    """The activation; the library's own default, Tanh, where the folder names none."""
    named = values.get("activation_function", "torch.nn.modules.activation.Tanh")
    package, _, name = str(named).rpartition(".")
    advice = "expected an activation of torch.nn that takes no arguments"
    found = getattr(torch.nn, name, None) if package.split(".")[:2] == ["torch", "nn"] else None
    homes = ("torch.nn.modules.activation", "torch.nn.modules.linear")
    if not isinstance(found, type) or found.__module__ not in homes:
        raise refused_key(file, "activation_function", named, advice)
    try:
        made: torch.nn.Module = found()
    except TypeError as error:
        raise refused_key(file, "activation_function", named, advice) from error
    return made


@final
class _WeightedLayers(torch.nn.Module):
    """The weighted mean of each token's embeddings in the layers from `start` on."""

    def __init__(self, start: int, layers: int) -> None:
        super().__init__()
        self._start = start
        self.layer_weights = torch.nn.Parameter(torch.ones(layers + 1 - start))

    def forward(self, layers: torch.Tensor) -> torch.Tensor:
        weights = self.layer_weights.reshape(-1, 1, 1, 1)
        return (weights * layers[self._start :]).sum(dim=0) / self.layer_weights.sum()


def _layers(folder: Path, values: Mapping[str, Any]) -> torch.nn.Module:
    made = _WeightedLayers(
        int(values.get("layer_start", 4)), int(values.get("num_hidden_layers", 12))
    )
    _load(made, folder)
    return made


def _load(module: torch.nn.Module, folder: Path, *, prefix: str = "") -> None:
    """Gives `module` the weights of the folder, all of them and no others."""
    from safetensors.torch import load_file

    wanted = {f"{prefix}{name}" for name in module.state_dict()}
    weights = folder / _WEIGHTS
    if wanted and not weights.exists():
        raise ModelError(
            f"{folder}: no {_WEIGHTS}; convert the folder with sentence-transformers >= 3"
        )
    state = load_file(weights) if weights.exists() else {}
    for name in sorted(wanted ^ set(state)):
        is_missing = "has no weights for" if name in wanted else "has weights that nothing takes:"
        raise ModelError(f"{weights} {is_missing} {name}; save the folder again")
    module.load_state_dict({name.removeprefix(prefix): tensor for name, tensor in state.items()})


def module_list(folder: Path) -> list[Mapping[str, Any]]:
    """The modules that modules.json names, in order.

    Raises:
        ModelError: the folder has none, or one that is not of sentence-transformers itself.
    """
    file = folder / "modules.json"
    expected = "a sentence-transformers folder or a bundle of kvspark"
    modules = read_json(file, expected=expected)
    if not isinstance(modules, list) or not all(isinstance(item, dict) for item in modules):
        raise ModelError(f"{file} holds no list of modules; expected {expected}")
    return modules
