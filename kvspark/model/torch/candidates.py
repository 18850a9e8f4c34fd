"""Where a model could be cut, with what each cut would cost and save; and which of them are worth it.

Module boundaries come first: they have names that people know. Work is counted in floating-point
operations on the example inputs, as torch.utils.flop_counter counts them; it ranks cuts of one model
and says nothing of seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import fx
from torch.utils.flop_counter import FlopCounterMode

from kvspark.errors import CutError, ExportError
from kvspark.model.torch.cut import INPUT_BORDER, Cutter, Piece
from kvspark.model.torch.export import Exported, tensor_spec
from kvspark.model.torch.exportable import Tensors

MOST_BYTES_PER_ROW = 1 << 20
"""Larger results are slower to fetch than most models are to run; a Redis value should not be larger."""

TRUNK_SHARE = 0.5
"""A trunk is worth a stage of its own if at least this share of the work lies before its end."""


@final
@dataclass(frozen=True, slots=True)
class Candidate:
    """A place where the model could be cut."""

    path: str
    """The module at whose border it is."""
    inputs: tuple[str, ...]
    """The model inputs that reach it."""
    bytes_per_row: int | None
    """Bytes that cross, for one row; None where they vary."""
    tensors: int
    """Tensors that cross; more than one where a skip connection does."""
    operations: int
    """Floating-point operations before it, for one row of the example."""
    has_weights_after: bool
    """True if a parameter is used after it: a head that can be trained anew."""


def find_candidates(exported: Exported, examples: Tensors) -> tuple[Candidate, ...]:
    """Every module border at which `exported` can be cut, in the order of execution.

    Borders with no heavy work before them are left out, and of several modules with one and the
    same border the outermost stays.
    """
    nodes = list(exported.graph.graph.nodes)
    operations = _operations(exported, examples)
    rows = len(next(iter(examples.values())))
    cutter = Cutter(exported)
    modules = sorted(cutter.modules, key=lambda p: (p.count("."), p))
    # A module's own end comes first: it is the name that people would give the place.
    paths = [*modules, *(f"{path}{INPUT_BORDER}" for path in modules)]
    found: dict[tuple[fx.Node, ...], Candidate] = {}
    for path in paths:
        candidate = _candidate(exported, cutter, path, operations, rows)
        if candidate is not None:
            outputs, made = candidate
            found.setdefault(outputs, made)
    order = {node: position for position, node in enumerate(nodes)}
    return tuple(found[outputs] for outputs in sorted(found, key=lambda key: order[key[-1]]))


def choose_cuts(exported: Exported, candidates: Sequence[Candidate]) -> list[str]:
    """The paths that `cuts="auto"` takes.

    For each set of inputs that is not all of them (a tower): the candidate with the most work behind
    it. Of the others, where a head with weights follows and most of the work is done: the one with
    the fewest bytes. Nothing where no candidate has a fixed, fetchable size.
    """
    fit = [
        c
        for c in candidates
        if c.bytes_per_row is not None and c.bytes_per_row <= MOST_BYTES_PER_ROW
    ]
    every = tuple(spec.name for spec in exported.inputs)
    cuts: list[str] = []
    for inputs in dict.fromkeys(c.inputs for c in fit if c.inputs != every):
        tower = [c for c in fit if c.inputs == inputs]
        cuts.append(_best(tower, lambda c: (-c.operations, c.bytes_per_row or 0)))
    total = max((c.operations for c in candidates), default=0)
    trunks = [
        c
        for c in fit
        if c.inputs == every and c.has_weights_after and c.operations >= TRUNK_SHARE * total
    ]
    if trunks:
        cuts.append(_best(trunks, lambda c: (c.bytes_per_row or 0, -c.operations)))
    return cuts


def _best(candidates: Sequence[Candidate], cost: Callable[[Candidate], tuple[int, int]]) -> str:
    """The cheapest of `candidates`; of equal ones the outermost module, and of those the first."""
    return min(candidates, key=lambda c: (*cost(c), c.path.count("."))).path


def _candidate(
    exported: Exported, cutter: Cutter, path: str, operations: dict[fx.Node, int], rows: int
) -> tuple[tuple[fx.Node, ...], Candidate] | None:
    try:
        piece, last = _two_pieces(cutter, path)
    except CutError:
        return None
    before = sum(operations.get(node, 0) for node in piece.part.nodes)
    if not before:
        return None
    try:
        sizes = [tensor_spec("crossing", node).bytes_per_row for node in piece.part.outputs]
    except ExportError:  # rows are not first in what crosses there
        return None
    reached = {exported.placeholders.index(argument) for argument in piece.part.arguments}
    return piece.part.outputs, Candidate(
        path=path,
        inputs=tuple(exported.inputs[i].name for i in sorted(reached)),
        bytes_per_row=None if None in sizes else sum(size or 0 for size in sizes),
        tensors=len(sizes),
        operations=before // rows,
        has_weights_after=any(node.op == "get_attr" for node in last.part.nodes),
    )


def _two_pieces(cutter: Cutter, path: str) -> tuple[Piece, Piece]:
    before, after = cutter.cut([path])
    return before, after


def _operations(exported: Exported, examples: Tensors) -> dict[fx.Node, int]:
    """Floating-point operations of each node, on the example inputs."""
    counter = _Counter(exported.graph)
    with torch.no_grad():
        counter.run(*examples.values())
    return counter.operations


@final
class _Counter(fx.Interpreter):
    """Runs a graph and notes what each node costs."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.operations: dict[fx.Node, int] = {}

    def run_node(self, n: fx.Node) -> object:
        if n.op != "call_function":
            return super().run_node(n)
        with FlopCounterMode(display=False) as counted:
            result: object = super().run_node(n)
        self.operations[n] = counted.get_total_flops()
        return result
