"""Where a model could be cut, with what each cut would cost and save; and which of them are worth it.

Module boundaries come first: they have names that people know. What comes before a cut is counted, not
measured (`works_of`), so that every machine cuts a model at the same places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from torch import fx

from kvspark.errors import CutError, ExportError
from kvspark.model.run.operators import is_heavy
from kvspark.model.stage.rows_of_call import NOTHING
from kvspark.model.torch.cut import INPUT_BORDER, Cutter, Piece
from kvspark.model.torch.export import Exported, live_nodes, tensor_spec
from kvspark.model.torch.work import Works

MOST_BYTES_PER_ROW = 1 << 20
"""Larger results are slower to fetch than most models are to run; a Redis value should not be larger."""

TRUNK_SHARE = 0.5
"""A trunk is worth a stage of its own if at least this share of the work lies before its end."""

TOWER_SHARE = 0.125
"""A tower is worth a stage of its own if the stage behind it would have at least this share of its work
more without it. The key projection of a first layer has less: it is the beginning of a trunk."""

ENTRY_S = 8e-6
"""What it takes to store a row once and to find it once: hashed, sealed, sent, fetched, opened (D13, D66).
At the speed that counted work is reckoned with (D64) 160,000 operations."""

ENTRY_BYTES_PER_S = 0.5e9
"""What that takes besides for the bytes of the entry: 1 us a KB on each way (D42)."""

NEARLY = 0.9
"""Of the trunks that save at least this part of what the best one saves, the one with the fewest bytes is taken."""


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
    before: frozenset[fx.Node]
    """What is computed before it."""
    operations: int
    """Floating-point operations of that, for one row; where lengths vary, for one of 64 items."""
    has_head: bool
    """True if work with weights follows: a head that can be trained anew."""

    def net_s(self, works: Works, known: frozenset[fx.Node]) -> float:
        """Seconds that a row saves that is stored and found, where the results of `known` are there already."""
        entry_s = ENTRY_S + (self.bytes_per_row or 0) / ENTRY_BYTES_PER_S
        return seconds_of(self.before - known, works) - entry_s


def seconds_of(nodes: frozenset[fx.Node], works: Works) -> float:
    """Seconds that one row of `nodes` takes, without those that nobody can count."""
    return sum((works.get(node) or NOTHING).row_s for node in nodes)


def find_candidates(exported: Exported, works: Works) -> tuple[Candidate, ...]:
    """Every module border at which `exported` can be cut, in the order of execution.

    Borders with no heavy work before them are left out, and of several modules with one and the
    same border the outermost stays.
    """
    cutter = Cutter(exported)
    calls = _calls_of_some_inputs(exported, cutter)
    modules = sorted([*cutter.modules, *calls], key=lambda p: (p.count("."), p))
    # A module's own end comes first: it is the name that people would give the place.
    paths = [*modules, *(f"{path}{INPUT_BORDER}" for path in modules)]
    found: dict[tuple[fx.Node, ...], Candidate] = {}
    for path in paths:
        candidate = _candidate(exported, cutter, path, works)
        if candidate is not None:
            outputs, made = candidate
            found.setdefault(outputs, made)
    order = {node: position for position, node in enumerate(exported.graph.graph.nodes)}
    return tuple(found[outputs] for outputs in sorted(found, key=lambda key: order[key[-1]]))


def _calls_of_some_inputs(exported: Exported, cutter: Cutter) -> list[str]:
    """The single calls that not all inputs reach, of modules that are called several times: siamese towers.

    Other calls are offered together, as one module: a layer that is called twelve times is no tower.
    """
    reached: dict[fx.Node, frozenset[str]] = {}
    for node in exported.graph.graph.nodes:
        own = [node.name] if node.op == "placeholder" else []
        reached[node] = frozenset(own).union(*(reached[each] for each in node.all_input_nodes))
    return [
        path
        for path, inside in cutter.calls.items()
        if len(frozenset[str]().union(*(reached[node] for node in inside))) < len(exported.inputs)
    ]


def choose_cuts(exported: Exported, candidates: Sequence[Candidate], works: Works) -> list[str]:
    """The paths that `cuts="auto"` takes.

    For each set of inputs that is not all of them (a tower): the candidate with the most work behind
    it, but for one that saves the stage behind it next to nothing. Of the others, where a head with weights
    follows and most of the work behind the towers is done: the one with the fewest bytes of those whose entries
    save most, if they save anything. Nothing where no candidate has a fixed, fetchable size.
    """
    fit = [
        c
        for c in candidates
        if c.bytes_per_row is not None and c.bytes_per_row <= MOST_BYTES_PER_ROW
    ]
    every = tuple(spec.name for spec in exported.inputs)
    whole = frozenset(live_nodes(exported.results))
    towers = _towers([c for c in fit if c.inputs != every], whole, works)
    known = frozenset[fx.Node]().union(*(tower.before for tower in towers))
    rest_s = seconds_of(whole - known, works)
    trunks = {
        c: c.net_s(works, known)
        for c in fit
        if c.inputs == every
        and c.has_head
        and seconds_of(c.before - known, works) >= TRUNK_SHARE * rest_s
    }
    most_s = max(trunks.values(), default=0.0)
    if most_s > 0:
        best = [c for c, net_s in trunks.items() if net_s >= NEARLY * most_s]
        towers.append(min(best, key=_cost))
    return [c.path for c in towers]


def _cost(candidate: Candidate) -> tuple[int, int, int]:
    """Least for the fewest bytes; of equal ones for the most work, and of those for the outermost module."""
    depth = candidate.path.count(".")
    return candidate.bytes_per_row or 0, -candidate.operations, depth


def _towers(
    candidates: Sequence[Candidate], whole: frozenset[fx.Node], works: Works
) -> list[Candidate]:
    """Of each set of inputs the candidate with the most work, as far as the stage behind it has much less."""
    best = [
        min(
            (c for c in candidates if c.inputs == inputs),
            key=lambda c: (-c.operations, c.bytes_per_row or 0, c.path.count(".")),
        )
        for inputs in dict.fromkeys(c.inputs for c in candidates)
    ]
    best = _without_twins(best, works)
    while best:
        shares = {tower.path: _share(tower, best, whole, works) for tower in best}
        least = min(best, key=lambda tower: shares[tower.path])
        if shares[least.path] >= TOWER_SHARE:
            break
        best.remove(least)
    return best


def _without_twins(towers: Sequence[Candidate], works: Works) -> list[Candidate]:
    """The `towers`, of two that compute nearly the same the one with fewer bytes.

    What a mask joins behind the last layer has two sets of inputs, with the mask and without it.
    """
    left = list(towers)
    for inner in towers:
        for outer in towers:
            if set(inner.inputs) < set(outer.inputs) and inner in left and outer in left:
                more_s = seconds_of(outer.before - inner.before, works)
                if more_s < TOWER_SHARE * seconds_of(outer.before, works):
                    left.remove(max(outer, inner, key=lambda c: c.bytes_per_row or 0))
    return left


def _share(
    tower: Candidate, towers: Sequence[Candidate], whole: frozenset[fx.Node], works: Works
) -> float:
    """The share of the work of the stage behind `tower` that is the tower's, if it had no stage of its own."""
    behind = [t.before for t in towers if set(t.inputs) > set(tower.inputs)]
    consumer = min(behind, key=len, default=whole)
    others = [t.before for t in towers if t is not tower and t.before < consumer]
    left = consumer.difference(*others)
    own_s = seconds_of(tower.before & left, works)
    return own_s / (seconds_of(left, works) or 1.0)


def _candidate(
    exported: Exported, cutter: Cutter, path: str, works: Works
) -> tuple[tuple[fx.Node, ...], Candidate] | None:
    try:
        piece, last = _two_pieces(cutter, path)
    except CutError:
        return None
    operations = sum((works.get(node) or NOTHING).operations for node in piece.part.nodes)
    if not operations:
        return None
    try:
        sizes = [tensor_spec("crossing", node).bytes_per_row for node in piece.part.outputs]
    except ExportError:  # rows are not first in what crosses there
        return None
    reached = {exported.placeholders.index(argument) for argument in piece.part.arguments}
    after = last.part.nodes
    return piece.part.outputs, Candidate(
        path=path,
        inputs=tuple(exported.inputs[i].name for i in sorted(reached)),
        bytes_per_row=None if None in sizes else sum(size or 0 for size in sizes),
        tensors=len(sizes),
        before=frozenset(piece.part.nodes),
        operations=int(operations),
        has_head=any(map(is_heavy, after)) and any(node.op == "get_attr" for node in after),
    )


def _two_pieces(cutter: Cutter, path: str) -> tuple[Piece, Piece]:
    before, after = cutter.cut([path])
    return before, after
