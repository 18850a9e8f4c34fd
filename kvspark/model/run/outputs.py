"""What a module returns, as a flat dict of named tensors, whatever containers it came in."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, final

import torch

from kvspark.errors import ExportError
from kvspark.model.run.operators import WRAPPER


@final
class Named(torch.nn.Module):
    """Calls a module with its inputs in a fixed order and returns its tensors as a flat dict.

    With a `dtype`, floats are cast to it before, and those of it to float32 behind.
    """

    def __init__(
        self, module: torch.nn.Module, names: tuple[str, ...], dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self._dtype = dtype
        setattr(self, WRAPPER, module)
        self._names = names
        self._by_keyword = _takes_keywords(module, names)

    def forward(self, *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs for `tensors`, one for each name."""
        module = self.get_submodule(WRAPPER)
        if self._dtype is not None:
            tensors = tuple(_cast(tensor, self._dtype) for tensor in tensors)
        if self._by_keyword:
            made = named_outputs(module(**dict(zip(self._names, tensors, strict=True))))
        else:
            made = named_outputs(module(*tensors))
        if self._dtype is None:
            return made
        return {name: _cast(tensor, torch.float32) for name, tensor in made.items()}


def call_unchanged(
    module: torch.nn.Module, tensors: tuple[torch.Tensor, ...]
) -> dict[str, torch.Tensor]:
    """The outputs of a `Named` for `tensors`; what the call writes into buffers is written into copies."""
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    made: dict[str, torch.Tensor] = torch.func.functional_call(module, buffers, tensors)
    return made


def _cast(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return tensor.to(dtype) if tensor.is_floating_point() else tensor


def named_outputs(result: Any) -> dict[str, torch.Tensor]:
    """The tensors in `result` by name, in its order.

    One tensor is `output`; a mapping or a dataclass keeps its names, a tuple gives `output_0`,
    `output_1`, ...; what is nested has the names on its way, joined by `_`. None and the cache
    objects of transformers (`past_key_values`), which are no results of a row, are left out.

    Raises:
        ExportError: something else than tensors, or two tensors of one name; says where.
    """
    outputs: dict[str, torch.Tensor] = {}
    for path, value in _leaves(result, ()):
        name = "_".join(path) or "output"
        if not isinstance(value, torch.Tensor):
            raise ExportError(
                f"output {name!r} is a {type(value).__qualname__}; expected a tensor, "
                "or a dict, tuple or dataclass of tensors"
            )
        if name in outputs:
            raise ExportError(f"two outputs have the name {name!r}; name one of them otherwise")
        outputs[name] = value
    if not outputs:
        raise ExportError(f"forward returned no tensor, but a {type(result).__qualname__}")
    return outputs


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if value is None or _is_cache(value):
        return
    items: Any = None
    if isinstance(value, Mapping):
        items = value.items()
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, list | tuple):
        names = getattr(value, "_fields", None) or range(len(value))
        items = zip(names, value, strict=True)
        path = path or (() if hasattr(value, "_fields") else ("output",))
    if items is None:
        yield path, value
        return
    for name, part in items:
        yield from _leaves(part, (*path, str(name)))


def _is_cache(value: Any) -> bool:
    """True for the key-value caches of transformers, which it need not be installed to tell."""
    return any(type_.__module__ == "transformers.cache_utils" for type_ in type(value).__mro__)


def _takes_keywords(module: torch.nn.Module, names: tuple[str, ...]) -> bool:
    """True if `forward` takes inputs of these names, False if it takes them by their order.

    Raises:
        ExportError: it takes neither; says which names it has.
    """
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):  # a forward without a Python signature: its call will tell
        return True
    try:
        signature.bind(**dict.fromkeys(names))
    except TypeError as error:
        kinds = {parameter.kind for parameter in signature.parameters.values()}
        if kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.POSITIONAL_ONLY}:
            return False
        raise ExportError(
            f"{type(module).__name__}.forward takes ({', '.join(signature.parameters)}), "
            f"example_inputs has {', '.join(names)}: {error}; name the inputs as forward does"
        ) from error
    return True
