"""The module that a graph was captured from, as the runtime that the graph is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import final

import numpy as np
import torch

from kvspark.model.run.outputs import Named, call_unchanged
from kvspark.model.torch.export import Exported, live_nodes
from kvspark.model.torch.exportable import unwrapped
from kvspark.model.trials.captured import Captured
from kvspark.model.trials.trial_values import Array, Values
from kvspark.spec import TensorSpec

_LONGEST_TABLE = 4096
_READ_AT = ("embedding", "slice", "index", "gather", "select")
"""In the names of operators that read a table at positions; a row that is longer than the table fails there."""


def captured_from(
    module: torch.nn.Module, exported: Exported, *, dtype: torch.dtype | None
) -> Captured:
    """What is known of `exported`, the graph of `module`: its limits, and what the module itself gives."""
    module = unwrapped(module)
    halves = (torch.float16, torch.bfloat16)
    lengths = exported.lengths.values()
    groups = _length_groups(exported)
    return Captured(
        own=_Eager(module, exported, dtype),
        shortest=max((least for least, _ in lengths), default=0),
        longest=min((most for _, most in lengths if most is not None), default=None),
        tables=sorted(set(_tables(exported))),
        length_groups=groups,
        longest_apart=tuple(exported.lengths[names[0]][1] for names in groups),
        is_half=dtype in halves or any(p.dtype in halves for p in module.parameters()),
    )


@final
class _Eager:
    """Calls the module itself with the values of a trial."""

    def __init__(
        self, module: torch.nn.Module, exported: Exported, dtype: torch.dtype | None
    ) -> None:
        self._inputs = exported.inputs
        self._outputs = exported.outputs
        self._module = Named(module, tuple(spec.name for spec in exported.inputs), dtype)

    def __call__(self, values: Values) -> Sequence[Array]:
        arrays = {name: array for (_, name), array in values.items()}
        count, length = _size(arrays, self._inputs)
        given = []
        for spec in self._inputs:
            # An input that reaches no result is none of the trial's.
            shape = (count, *(length if dim is None else dim for dim in spec.shape))
            array = arrays.get(spec.name, np.zeros(shape, spec.numpy_dtype))
            tensor = torch.from_numpy(array).clone()
            given.append(tensor.view(torch.bfloat16) if spec.dtype == "bfloat16" else tensor)
        with torch.no_grad():
            made = call_unchanged(self._module, tuple(given))
        return [_array(made[spec.name]) for spec in self._outputs]


def _length_groups(exported: Exported) -> tuple[tuple[str, ...], ...]:
    """The inputs that share a length, where the graph has several; () if it has one, or one that follows another."""
    found: dict[object, list[str]] = {}
    for spec, node in zip(exported.inputs, exported.placeholders, strict=True):
        if None in spec.shape:
            expression = node.meta["val"].shape[1].node.expr
            if not expression.is_Symbol:
                return ()
            found.setdefault(expression, []).append(spec.name)
    return tuple(map(tuple, found.values())) if len(found) > 1 else ()


def _size(arrays: dict[str, Array], specs: Sequence[TensorSpec]) -> tuple[int, int]:
    """The rows of a trial and their length."""
    count = len(next(iter(arrays.values())))
    lengths = [
        arrays[spec.name].shape[1] for spec in specs if spec.name in arrays and None in spec.shape
    ]
    return count, lengths[0] if lengths else 0


def _array(tensor: torch.Tensor) -> Array:
    plain = tensor.detach().contiguous()
    return (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()


def _tables(exported: Exported) -> Iterator[int]:
    """The lengths of the constants that an operator reads at positions."""
    live = live_nodes(exported.results)
    for node in live:
        value = node.meta.get("val")
        if node.op != "get_attr" or not isinstance(value, torch.Tensor):
            continue
        if any(word in str(user.target) for user in node.users for word in _READ_AT):
            yield from (size for size in value.shape[:2] if 2 < size <= _LONGEST_TABLE)
