"""A module in another floating-point dtype than it was trained in."""

from __future__ import annotations

import copy

import torch

from kvspark.errors import UsageError

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def dtype_named(name: str) -> torch.dtype:
    """The dtype `name`.

    Raises:
        UsageError: it is not one that a model can compute in.
    """
    if name not in _DTYPES:
        raise UsageError(f"dtype {name!r} is unknown; use one of {', '.join(_DTYPES)}")
    return _DTYPES[name]


def cast_copy(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """A copy of `module` with its floating-point parameters and buffers in `dtype`."""
    return copy.deepcopy(module).to(dtype)
