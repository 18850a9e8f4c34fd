"""Which index of a row is outside the table that it is looked up in, in words.

torch says no more than "index out of range in self".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import torch
from torch import fx

from kvspark.model.run.index_range import outside_words


def index_outside(program: Callable[..., Any], tensors: Sequence[torch.Tensor]) -> str | None:
    """What is wrong with the indices of the rows of `tensors`, on which `program` raises; None if nothing is."""
    if not isinstance(program, fx.GraphModule):
        return None
    finder = _Finder(program)
    try:
        finder.run(*tensors)
    except Exception:  # noqa: BLE001 - it is known to raise
        return finder.found
    return None


@final
class _Finder(fx.Interpreter):
    """Runs a program operator by operator, and looks at indices before they are used."""

    found: str | None = None

    def __init__(self, program: fx.GraphModule) -> None:
        super().__init__(program)
        # Where an operator raises, torch would import its compiler, for seconds, to add a trace that nobody reads.
        self.extra_traceback = False

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        for index, low, size in _lookups(str(target), args):
            wrong = index[(index < low) | (index >= size)]
            if len(wrong):
                self.found = outside_words(int(wrong[0]), low, size)
        return super().call_function(target, args, kwargs)


def _lookups(operator: str, args: Sequence[Any]) -> Iterator[tuple[torch.Tensor, int, int]]:
    """The indices that `operator` looks up, the lowest that it takes, and the size of what it looks into."""
    if operator.startswith(("aten.embedding.", "aten.embedding_bag.", "aten._embedding_bag.")):
        yield args[1], 0, len(args[0])
    elif operator.startswith(("aten.gather.", "aten.index_select.")):
        yield args[2], 0, args[0].shape[args[1]]
    elif operator == "aten.index.Tensor":
        for index, size in zip(args[1], args[0].shape, strict=False):
            if index is not None and index.dtype != torch.bool:
                yield index, -size, size
