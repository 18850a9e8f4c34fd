"""What the caller hands to torch.export: a module and example inputs that it can take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from kvspark.errors import ExportError
from kvspark.spec import ITEM_BYTES

Tensors = Mapping[str, torch.Tensor]


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The module inside wrappers that change its names and none of its bits."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(compiled := getattr(module, "_orig_mod", None), nn.Module):
            module = compiled  # torch.compile
        else:
            return module


def check_module(module: Any) -> None:
    """Does nothing if torch.export may be tried on `module`.

    Raises:
        ExportError: it is no module, in training mode, quantised, or under autocast.
    """
    # Any: the caller may pass anything, whatever the types say.
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise ExportError(
            f"a {type(module).__qualname__} cannot be exported; pass the torch.nn.Module that it was made of"
        )
    if torch.is_autocast_enabled("cpu"):
        raise ExportError(
            "torch.autocast is on around the export, which would not be seen when rows are scored; "
            "leave its block first, or use autocast inside the model's forward"
        )
    quantised = [path for path, part in module.named_modules() if _is_quantised(part)]
    if quantised:
        raise ExportError(
            f"{quantised[0] or 'the model'} is a module of torch's eager quantisation, which torch.export "
            'cannot capture; pass the module as it was before, and dtype="bfloat16" for half the memory, or '
            "export it to ONNX and quantise that file statically"
        )
    training = [path or "the model" for path, part in module.named_modules() if part.training]
    if training:
        more = f" (and {len(training) - 1} more modules)" if len(training) > 1 else ""
        raise ExportError(f"{training[0]} is in training mode{more}; call model.eval() first")


def _is_quantised(part: nn.Module) -> bool:
    """True for what quantize_dynamic and convert put in the place of a module."""
    origin = type(part).__module__
    is_float = origin.endswith(
        ".functional_modules"
    )  # what a float model has, to be quantised later
    return origin.startswith("torch.ao.nn.") and ".quantized." in f"{origin}." and not is_float


def check_inputs(example_inputs: Tensors, variable_length: Sequence[str]) -> None:
    """Does nothing if `example_inputs` are tensors with rows of columns, as many in each.

    Raises:
        ExportError: they are not; says which.
    """
    if not isinstance(example_inputs, Mapping):
        raise ExportError(
            f"example_inputs is a {type(example_inputs).__name__}; pass a dict of tensors, named as forward "
            "names its arguments: {'x': tensor}"
        )
    if not example_inputs:
        raise ExportError("example_inputs is empty; pass a dict of tensors with the batch first")
    for name, tensor in example_inputs.items():
        # getattr: the caller may pass anything, an array say.
        if not getattr(tensor, "shape", ()) or not hasattr(tensor, "element_size"):
            raise ExportError(
                f"example input {name!r} must be a tensor with the batch first, got "
                f"{type(tensor).__name__}; torch.as_tensor makes one"
            )
        if not len(tensor):
            raise ExportError(f"example input {name!r} has no rows; give it one or more")
        if dtype_name(tensor.dtype) not in ITEM_BYTES:
            raise ExportError(
                f"example input {name!r} has dtype {tensor.dtype}, which no column can hold"
            )
    if len({len(tensor) for tensor in example_inputs.values()}) != 1:
        sizes = {name: len(tensor) for name, tensor in example_inputs.items()}
        raise ExportError(f"the example inputs have different batch sizes: {sizes}")
    unknown = [name for name in variable_length if name not in example_inputs]
    if unknown:
        raise ExportError(
            f"variable_length names {unknown[0]!r}, which is no example input: {list(example_inputs)}"
        )


def dtype_name(dtype: torch.dtype) -> str:
    """`dtype` as a `TensorSpec` calls it."""
    return str(dtype).removeprefix("torch.")
