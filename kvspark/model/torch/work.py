"""What one row costs a program of torch operators, counted without computing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from kvspark.model.run.program import build_program
from kvspark.model.stage.rows_of_call import Work
from kvspark.spec import TensorSpec

_META = torch.device("meta")
_ROWS = 1009
"""Of the call that is counted: a prime, so that a tensor whose first dimension is a multiple of it has rows there."""


def work_of_row(
    program: bytes, weights: Sequence[torch.Tensor], arguments: Sequence[TensorSpec]
) -> Work | None:
    """What one row costs the encoded `program`; None where its rows vary in size, or nobody can count.

    Operations are counted as torch.utils.flop_counter counts them, on tensors without memory.
    """
    if not all(spec.is_fixed for spec in arguments):
        return None
    run = build_program(program, weights, _META)
    given = [
        torch.empty(
            (_ROWS, *(dim or 0 for dim in spec.shape)),
            dtype=getattr(torch, spec.dtype),
            device=_META,
        )
        for spec in arguments
    ]
    operators = _Operators()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counted, operators:
            run(*given)
    except Exception:  # noqa: BLE001 - an operator that needs values raises what it likes; 32 rows are right too
        return None
    return Work(
        operations=counted.get_total_flops() / _ROWS,
        moved_bytes=operators.moved_bytes / _ROWS,
        widest_bytes=operators.widest_bytes / _ROWS,
        operators=operators.count,
    )


@final
class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts operators, and the bytes of rows that they take and give."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.count = 0
        self.moved_bytes = 0
        self.widest_bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        made: object = func(*args, **(kwargs or {}))
        if not func.is_view:
            moved = sum(
                leaf.nbytes
                for leaf in tree_leaves((args, kwargs, made))
                if isinstance(leaf, torch.Tensor) and leaf.dim() and len(leaf) % _ROWS == 0
            )
            self.count += 1
            self.moved_bytes += moved
            self.widest_bytes = max(self.widest_bytes, moved)
        return made
