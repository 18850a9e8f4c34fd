"""Does a row's result depend on its companions? Then there is nothing to keep, whatever is cached.

Batch statistics, a softmax or a sort over the batch, a sequence model that takes its first dimension
for time: all of them export well. They are found by running the graph on the example rows with half
of them changed: what was left alone must keep every bit, for shapes, places and so the kernels are
the same in both runs. Other places and micro-batches are what the preflight of a run checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import fx

from kvspark.errors import ExportError
from kvspark.model.run.operators import place

Batch = Sequence[torch.Tensor]


def check_companions(
    graph: fx.GraphModule,
    results: Sequence[fx.Node],
    row_dims: Mapping[fx.Node, int],
    rows: Batch,
) -> None:
    """Returns if no row of `results` changes with the other rows of the example.

    `row_dims` holds the nodes that have a dimension for the rows, and which one it is; among them
    the one that mixes rows is looked for. At least two rows.

    Raises:
        ExportError: names the operator and the module that mix rows.
    """
    wanted = set(results)
    count = len(rows[0])
    halves = (slice(0, count // 2), slice(count // 2, count))
    with torch.no_grad():
        before = _run(graph, wanted, rows)
        for kept, changed in (halves, halves[::-1]):
            for others in (_moved(rows), _turned(rows)):
                mixed = [
                    _with(tensor, other, changed)
                    for tensor, other in zip(rows, others, strict=True)
                ]
                try:
                    after = _run(graph, wanted, mixed)
                except (RuntimeError, IndexError):
                    continue  # not values that this model takes: an index is out of range, say
                if any(_differ(before[n], after[n], kept, count, 0) for n in results):
                    raise ExportError(_reason(graph, row_dims, rows, mixed, kept))


def _moved(rows: Batch) -> list[torch.Tensor]:
    """Other numbers where numbers may be any."""
    generator = torch.Generator().manual_seed(20)
    moved = []
    for tensor in rows:
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator).to(tensor.dtype)
            moved.append(tensor + noise)
        else:
            moved.append(_turned([tensor])[0])
    return moved


def _turned(rows: Batch) -> list[torch.Tensor]:
    """The values that are there, in other places: indices stay indices."""
    return [tensor.roll(1, 0).flip(tuple(range(1, tensor.dim()))) for tensor in rows]


def _with(tensor: torch.Tensor, other: torch.Tensor, changed: slice) -> torch.Tensor:
    mixed = tensor.clone()
    mixed[changed] = other[changed]
    return mixed


def _run(graph: fx.GraphModule, wanted: set[fx.Node], rows: Batch) -> dict[fx.Node, torch.Tensor]:
    recorder = _Recorder(graph, wanted)
    # A model may write into its inputs.
    recorder.run(*(tensor.clone() for tensor in rows))
    return recorder.seen


@final
class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the results of some of its nodes."""

    def __init__(self, graph: fx.GraphModule, wanted: set[fx.Node]) -> None:
        super().__init__(graph)
        self.extra_traceback = False  # of values that a model does not take
        self._wanted = wanted
        self.seen: dict[fx.Node, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n in self._wanted and isinstance(result, torch.Tensor):
            self.seen[n] = result.detach().clone()
        return result


def _differ(a: torch.Tensor, b: torch.Tensor, kept: slice, count: int, dim: int) -> bool:
    """True if a bit of the rows `kept` differs."""
    if a.shape != b.shape:
        return True
    # A result may have several lines for a row: heads or windows folded into the batch.
    one, two = (t.movedim(dim, 0).reshape(count, -1)[kept].contiguous().reshape(-1) for t in (a, b))
    return not torch.equal(one.view(torch.uint8), two.view(torch.uint8))


def _reason(
    graph: fx.GraphModule, row_dims: Mapping[fx.Node, int], rows: Batch, mixed: Batch, kept: slice
) -> str:
    """The refusal, with the first operator behind which the kept rows are others."""
    count = len(rows[0])
    before, after = _run(graph, set(row_dims), rows), _run(graph, set(row_dims), mixed)
    mixers = (
        node
        for node, dim in row_dims.items()
        if node in before
        and before[node].size(dim) % count == 0
        and _differ(before[node], after[node], kept, count, dim)
    )
    node = next(mixers, None)
    what = "the model" if node is None else f"operator {node.target} at {place(node)}"
    return (
        f"{what} mixes rows: a row's result changes with the other rows of its batch, so it cannot be "
        "re-used; let it work on each row alone, with the batch as the first dimension"
    )
