"""Cutting an ONNX graph at values: each piece takes only what crosses, and computes the rest itself."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from kvspark.errors import CutError
from kvspark.model.onnx.graph import OnnxGraph, needed
from kvspark.model.stage.names import names_of

LAST = "output"
"""The name of the stage that gives the model's outputs."""


@final
@dataclass(frozen=True, slots=True)
class OnnxPiece:
    """The nodes of one stage."""

    name: str
    nodes: tuple[int, ...]
    """Their places in the file, in order."""
    arguments: tuple[str, ...]
    upstream: tuple[tuple[str, int] | None, ...]
    """For each argument: the stage and the position of its result, or None for an input of the model."""
    outputs: tuple[str, ...]
    sizes: frozenset[int]
    """Shape nodes of values that this piece does not have: made from the row count and constants."""


def stage_name(cut: str) -> str:
    """The stage that ends at the value `cut`: its name, as far as a folder can have it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", cut).strip("._-") or "cut"


def cut_onnx(graph: OnnxGraph, cuts: Sequence[str]) -> tuple[OnnxPiece, ...]:
    """The pieces that end at the values `cuts`, in order, and the one that gives the outputs.

    A value with matrix work behind it that a later piece needs besides its cut (a skip connection)
    becomes one more output of the piece that computes it; anything else is computed again.

    Raises:
        CutError: a cut is no value of the graph, or what crosses there has no rows.
    """
    for cut in names_of("cuts", cuts):
        _check_cut(graph, cut)
    ordered = sorted(dict.fromkeys(cuts), key=lambda cut: graph.producers[cut])
    names = [*map(stage_name, ordered), LAST]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise CutError(f"two stages would have the name {twice[0]!r}; cut at another value")
    targets = [[cut] for cut in ordered]
    targets.append(list(dict.fromkeys(spec.name for spec in graph.outputs)))
    while True:
        walk = _Walk(graph, names, targets)
        if walk.skipped is None:
            return tuple(walk.pieces)
        place, value = walk.skipped
        _check_crossing(graph, value)
        targets[place].append(value)


@final
class _Walk:
    """One attempt; ends early where a value must cross that no piece gives yet."""

    def __init__(
        self, graph: OnnxGraph, names: Sequence[str], targets: Sequence[Sequence[str]]
    ) -> None:
        self._graph = graph
        self._inputs = [spec.name for spec in graph.inputs]
        self._given: dict[str, tuple[str, int]] = {}
        self._owner: dict[str, int] = {}
        """The piece that computes each heavy value."""
        self.pieces: list[OnnxPiece] = []
        self.skipped: tuple[int, str] | None = None
        for place, (name, wanted) in enumerate(zip(names, targets, strict=True)):
            piece = self._piece(name, wanted)
            if piece is None:
                return
            self.pieces.append(piece)
            for node in piece.nodes:
                for value in graph.nodes[node].output:
                    if value in graph.heavy:
                        self._owner.setdefault(value, place)
            for position, value in enumerate(wanted):
                self._given.setdefault(value, (name, position))

    def _piece(self, name: str, wanted: Sequence[str]) -> OnnxPiece | None:
        nodes: set[int] = set()
        taken: set[str] = set()
        measured: dict[int, str] = {}
        stack, seen = list(wanted), set(wanted)
        while stack:
            value = stack.pop()
            if value in self._given or value in self._inputs:
                taken.add(value)
                continue
            if value in self._graph.weights:
                continue
            if value in self._owner:
                self.skipped = (self._owner[value], value)
                return None
            node = self._graph.producers[value]
            if node in nodes:
                continue
            if self._is_measured(node):
                measured[node] = self._graph.nodes[node].input[0]
                continue
            nodes.add(node)
            new = [need for need in needed(self._graph.nodes[node]) if need not in seen]
            seen.update(new)
            stack += new
        if not taken:
            taken.update(value for value in measured.values() if value in self._inputs)
        if not taken:
            raise CutError(f"stage {name!r} depends on no input of the model; leave that cut out")
        sizes = frozenset(node for node, value in measured.items() if value not in taken)
        arguments = sorted(taken, key=self._order)
        return OnnxPiece(
            name,
            tuple(sorted(nodes | set(measured))),
            tuple(arguments),
            tuple(self._given.get(value) for value in arguments),
            tuple(wanted),
            sizes,
        )

    def _is_measured(self, node: int) -> bool:
        """True for the shape of a value that crosses no cut, and of which only the rows are unknown."""
        proto = self._graph.nodes[node]
        if proto.op_type != "Shape":
            return False
        value = proto.input[0]
        spec = self._graph.specs.get(value)
        is_elsewhere = value in self._owner or (value in self._inputs and bool(self.pieces))
        return spec is not None and spec.is_fixed and value not in self._given and is_elsewhere

    def _order(self, value: str) -> tuple[int, int]:
        if value in self._inputs:
            return 0, self._inputs.index(value)
        return 1, self._graph.producers[value]


def _check_cut(graph: OnnxGraph, cut: str) -> None:
    if cut not in graph.producers:
        near = difflib.get_close_matches(cut, list(graph.producers), n=1)
        advice = f"; did you mean {near[0]!r}?" if near else ""
        raise CutError(f"cut {cut!r} is no value that a node of the graph gives{advice}")
    if cut not in graph.reached:
        raise CutError(f"cut {cut!r} is the same for all rows; there is nothing to cache")
    _check_crossing(graph, cut)


def _check_crossing(graph: OnnxGraph, value: str) -> None:
    if value not in graph.specs:
        raise CutError(
            f"value {value!r} would cross a cut, and its first dimension is not the batch, or no entry "
            "can hold its dtype; cut elsewhere"
        )
