"""A `.keras` file as a torch module: Keras 3 runs its layers on torch, and torch.export captures them.

The weights are the file's, whichever backend trained them. Keras chooses its backend once, when it is
imported, so a process that uses it with another one cannot read a model here.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch

from kvspark.errors import ExportError, ModelError
from kvspark.model.keras.recurrent import unrolled_loops
from kvspark.model.pretrained.transformer import first_line
from kvspark.model.torch.export_errors import OWN_FILE
from kvspark.spec import ITEM_BYTES

_LOG = logging.getLogger(__name__)

_BACKEND = "KERAS_BACKEND"
_LAMBDA = "__lambda__"
"""What a file holds for a Python function without a name: its byte code."""

_RANDOM = "seed_generator"

_LENGTH = 8
"""The length of the rows that torch.export is shown, where it varies."""


def load_keras(
    path: Path, *, variable_length: Sequence[str] | None
) -> tuple[torch.nn.Module, dict[str, torch.Tensor], tuple[str, ...]]:
    """The module of the file `path` in eval mode, two rows of its inputs, and which of them vary in length.

    Names are the file's own. Those that vary are `variable_length`; None: those that the file leaves free.

    Raises:
        ModelError: the file is no `.keras` file, needs code that is not there, or cannot be read here.
        ExportError: an input has another free dimension than the one behind the batch.
    """
    check_keras_file(path)
    keras = keras_on_torch()
    try:
        # On a machine with a GPU Keras would put the weights there.
        with keras.device("cpu"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = keras.saving.load_model(str(path), compile=False, safe_mode=True)
    # Keras raises TypeError, ValueError or what a layer's own constructor raises.
    except Exception as error:
        raise ModelError(
            f"{path}: Keras cannot load it ({type(error).__name__}: {first_line(error)}); a layer of "
            "your own must be registered with keras.saving.register_keras_serializable before"
        ) from error
    inputs, by_name = _inputs(path, model)
    if variable_length is None:
        variable_length = [n for n, one in inputs.items() if tuple(one.shape[1:2]) == (None,)]
    examples = _examples(path, inputs, variable_length)
    network = KerasNetwork(model, by_name=by_name).eval()
    setattr(network, OWN_FILE, path.name)
    _without_losses(model)
    _check_remembers_nothing(path, model, network, examples)
    return network, examples, tuple(variable_length)


@final
class KerasNetwork(torch.nn.Module):
    """A Keras model whose layers are modules by their names, so that it can be cut at them."""

    def __init__(self, model: Any, *, by_name: bool) -> None:
        super().__init__()
        self._by_name = by_name
        # In a tuple: not a module of this one, so that the paths of its layers begin with their names.
        self._model = (model,)
        _register(self, model)

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        (model,) = self._model
        given = inputs if self._by_name else next(iter(inputs.values()))
        with unrolled_loops():
            made = model(given, training=False)
        if isinstance(made, Mapping):
            return dict(made)
        results = list(made) if isinstance(made, list | tuple) else [made]
        return dict(zip(_output_names(model, len(results)), results, strict=True))


def _inputs(path: Path, model: Any) -> tuple[dict[str, Any], bool]:
    """What the model takes, by name, and whether it is called with a dict of it.

    Raises:
        ModelError: it does not say, or takes containers within containers.
    """
    tensors = getattr(model, "inputs", None)
    if not tensors:
        raise ModelError(
            f"{path}: the model does not say what it takes; build it with keras.Input, or pass "
            "its module to Model.from_torch"
        )
    if len(tensors) == 1 and not isinstance(getattr(model, "input", None), Mapping):
        return {tensors[0].name: tensors[0]}, False
    named = model.input
    if not isinstance(named, Mapping):
        named = {tensor.name: tensor for tensor in tensors}
    if len(named) != len(tensors) or any(not hasattr(one, "shape") for one in named.values()):
        raise ModelError(
            f"{path}: its inputs are nested; build it with a flat list or dict of them"
        )
    return {str(name): tensor for name, tensor in named.items()}, True


def _without_losses(model: Any) -> None:
    """Takes out what layers add to the loss in training: it counts rows, and no output depends on it."""
    for layer in getattr(model, "_flatten_layers", list)():
        if getattr(layer, "activity_regularizer", None) is not None:
            layer.activity_regularizer = None


def _check_remembers_nothing(
    path: Path, model: Any, network: KerasNetwork, examples: Mapping[str, torch.Tensor]
) -> None:
    """Raises ModelError if a call changes what the model holds, but for the state of what draws at random."""
    held = [one for one in model.non_trainable_variables if _RANDOM not in str(one.path)]
    before = [_bytes(one) for one in held]
    try:
        with torch.no_grad():
            network(**{name: example.clone() for name, example in examples.items()})
    except Exception:  # noqa: BLE001 - the export says what is wrong with it
        return
    for one, was in zip(held, before, strict=True):
        if _bytes(one) != was:
            raise ModelError(
                f"{path}: {str(one.path)!r} is changed by every call, also with training=False, so no result "
                "can be used again; let the layer change it in training only, and save the model again"
            )


def _bytes(variable: Any) -> bytes:
    value: bytes = variable.value.detach().cpu().numpy().tobytes()
    return value


def _register(module: torch.nn.Module, model: Any) -> None:
    """Makes the layers of `model`, and of the models in it, modules of `module`."""
    for layer in model.layers:
        name, inner = str(layer.name), getattr(layer, "layers", None)
        if isinstance(layer, torch.nn.Module) and not hasattr(module, name):
            module.add_module(name, layer)
            if inner:
                _register(layer, layer)


def _output_names(model: Any, count: int) -> list[str]:
    names = list(getattr(model, "output_names", None) or ())
    if len(names) == count == len(set(names)):
        return [str(name) for name in names]
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


def check_keras_file(path: Path) -> None:
    """Does nothing if `path` is a file of Keras 3 that holds no Python code.

    Raises:
        ModelError: it is not.
    """
    if not path.is_file():
        raise ModelError(f"{path} is no file; expected what model.save('....keras') wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"{path} is no model of Keras 3 ({type(error).__name__}); load it with the Keras that wrote "
            "it, and save it again as a .keras file"
        ) from error
    layer = _with_lambda(config, None)
    if layer is not None:
        raise ModelError(
            f"{path}: layer {layer!r} is a Lambda, whose Python code is never run from a model file; "
            "write it with keras.ops or as a registered layer, and save the model again"
        )


def _with_lambda(value: Any, layer: str | None) -> str | None:
    """The name of a layer that holds byte code; None if no layer does."""
    if isinstance(value, Mapping):
        if value.get("class_name") == _LAMBDA:
            return layer or "?"
        config = value.get("config")
        named = config.get("name") if isinstance(config, Mapping) else None
        layer = named if isinstance(named, str) else layer
        value = list(value.values())
    if not isinstance(value, list):
        return None
    found = (_with_lambda(item, layer) for item in value)
    return next((name for name in found if name is not None), None)


def keras_on_torch() -> Any:
    """The module keras, on torch.

    Raises:
        ModelError: it is not installed, or this process has it on another backend.
    """
    if "keras" not in sys.modules:
        asked = os.environ.get(_BACKEND, "torch")
        try:
            with _environment(_BACKEND, "torch"):
                importlib.import_module("keras")
        except ImportError as error:
            raise ModelError("a .keras file needs keras; install kvspark[keras]") from error
        if asked != "torch":
            _LOG.warning(
                "%s is %s, and keras now runs on torch for the rest of this process",
                _BACKEND,
                asked,
            )
    keras = sys.modules["keras"]
    backend = keras.backend.backend() if hasattr(keras, "backend") else "none"
    if backend != "torch":
        raise ModelError(
            f"keras runs on {backend} in this process, and a .keras file is read on torch; set "
            f"{_BACKEND}=torch before keras is imported, or make the bundle in a process of its own "
            "(Model.from_keras, then save)"
        )
    return keras


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _examples(
    path: Path, inputs: Mapping[str, Any], variable_length: Sequence[str]
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(11)
    examples = {}
    for name, tensor in inputs.items():
        batch, *dims = tensor.shape
        if name in variable_length and dims:
            dims[0] = _LENGTH
        if batch is not None or None in dims:
            raise ExportError(
                f"{path}: input {name!r} has shape {tuple(tensor.shape)}; expected a free batch "
                "and no other free dimension than the next one"
            )
        dtype = str(tensor.dtype)
        if dtype not in ITEM_BYTES:
            raise ExportError(f"{path}: input {name!r} is {dtype}, which torch cannot take")
        made = torch.randn((2, *dims), generator=generator)
        if not dtype.startswith(("float", "bfloat")):
            made = (made > 0).float()
        examples[name] = made.to(getattr(torch, dtype))
    return examples
