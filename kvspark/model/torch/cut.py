"""Cuts an exported graph into stages at the module paths that the caller names.

A cut at a module gives a stage whose results are the tensors that leave the module; `path@input` is
the module's other border, whose results are the tensors that enter it. Of a module that is called several
times `path@0`, `path@1` and so on are the single calls, and `path` all of them. Every stage is then sliced backwards from its results, stopping at results of earlier stages and at the
model's inputs, so nothing that a result does not need stays in (dead code is gone). What a later
stage needs besides is handled by what it costs:

- cheap values of the inputs (masks, positions, sizes) are computed again in the later stage;
- a value with heavy work behind it (a skip connection) becomes one more result of the stage that has it;
- a size is read off a tensor that the stage has anyway.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import fx

from kvspark.errors import CutError
from kvspark.model.run.operators import is_heavy, module_calls, module_paths
from kvspark.model.run.program import Slice
from kvspark.model.stage.names import names_of
from kvspark.model.torch.export import Exported, live_nodes, row_symbols

INPUT_BORDER = "@input"
"""Behind a module's path: where tensors enter it, not where they leave it."""


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """One stage of a cut graph, still as nodes."""

    name: str
    part: Slice
    upstream: tuple[tuple[str, int] | None, ...]
    """For each argument: the stage and the position of its result; None for an input of the model."""


def cut_graph(exported: Exported, cuts: Sequence[str]) -> tuple[Piece, ...]:
    """The stages of `exported`, in topological order; the last one gives the model's outputs.

    Raises:
        CutError: a path that is no module of the model, or a cut that no set of tensors carries.
    """
    return Cutter(exported).cut(cuts)


@final
class Cutter:
    """Cuts one graph, as often as it is asked: what is known of its nodes is found once."""

    def __init__(self, exported: Exported) -> None:
        nodes = list(exported.graph.graph.nodes)
        self.modules: dict[str, set[fx.Node]] = {}
        """The operators inside each module, by its path."""
        calls: dict[str, dict[int, set[fx.Node]]] = {}
        for node in nodes:
            for path, call in module_calls(node).items() if node.op == "call_function" else ():
                self.modules.setdefault(path, set()).add(node)
                calls.setdefault(path, {}).setdefault(call, set()).add(node)
        self.calls = {
            f"{path}@{call}": inside
            for path, found in calls.items()
            for call, inside in found.items()
            if len(found) > 1
        }
        """The operators inside each call of the modules that are called several times."""
        self._exported = exported
        self._order = {node: position for position, node in enumerate(nodes)}
        self._live = live_nodes(exported.results)
        self._symbols: dict[fx.Node, str | None] = {}
        self._has_rows: dict[fx.Node, bool] = {}
        self._is_heavy: dict[fx.Node, bool] = {}
        rows = row_symbols(exported.placeholders[0])
        for node in nodes:
            self._has_rows[node] = _has_rows(node, rows)
            self._is_heavy[node] = self._has_rows[node] and (
                is_heavy(node) or any(self._is_heavy[argument] for argument in node.all_input_nodes)
            )

    def cut(self, cuts: Sequence[str]) -> tuple[Piece, ...]:
        """The stages for these `cuts`, as `cut_graph` returns them.

        Raises:
            CutError: as there.
        """
        results = {path: self._crossing(path) for path in names_of("cuts", cuts)}
        order = self._order
        paths = sorted(results, key=lambda path: max(order[node] for node in results[path]))
        slicer = _Slicer(self._exported, order, self._is_heavy, self._symbols)
        while True:
            pieces = slicer.pieces({path: results[path] for path in paths})
            if slicer.skipped is None:
                return tuple(pieces)
            path, node = slicer.skipped
            results[path].append(node)

    def _crossing(self, cut: str) -> list[fx.Node]:
        """The tensors that leave the module of `cut`, or enter it, and that a result needs."""
        path = cut.removesuffix(INPUT_BORDER)
        inside = self.modules.get(path) or self.calls.get(path)
        if not inside:
            known = sorted([*self.modules, *self.calls])
            near = difflib.get_close_matches(path, known, 1) or known[:1]
            hint = f"; did you mean {near[0]!r}" if near else ""
            raise CutError(f"cut {cut!r} is no module that this model runs{hint}")
        live = self._live
        if cut == path:
            crossing = {
                n for n in inside if any(self._takes_from(user, inside) for user in n.users)
            }
        else:
            entering = {node for user in inside & live for node in user.all_input_nodes}
            crossing = {n for n in entering - inside if n.op == "call_function"}
        kept = [
            node
            for node in crossing
            if isinstance(node.meta.get("val"), torch.Tensor) and self._has_rows[node]
        ]
        if not kept:
            raise CutError(f"cut {cut!r}: nothing that the model returns needs what crosses there")
        return sorted(kept, key=self._order.__getitem__)

    def _takes_from(self, user: fx.Node, inside: set[fx.Node]) -> bool:
        """True if `user` is outside of a module and a result needs it."""
        return user not in inside and (user in self._live or user.op == "output")


@final
class _Slicer:
    """Slices stage after stage; stops at the first value that has to become a result as well."""

    def __init__(
        self,
        exported: Exported,
        order: Mapping[fx.Node, int],
        heavy: Mapping[fx.Node, bool],
        symbols: dict[fx.Node, str | None],
    ) -> None:
        self._exported = exported
        self._order = order
        self._is_heavy = heavy
        self._symbols = symbols
        """Of the sizes that were looked at so far; shared by all slicers of a graph."""
        self.skipped: tuple[str, fx.Node] | None = None
        """A stage and a node of it that a later stage needs and should not compute again."""

    def pieces(self, results: Mapping[str, Sequence[fx.Node]]) -> list[Piece]:
        """The stages; unfinished if `skipped` is not None afterwards."""
        self.skipped = None
        owner: dict[fx.Node, tuple[str, int]] = {}
        computed_in: dict[fx.Node, str] = {}
        done: list[Piece] = []
        goals = [(path, tuple(nodes)) for path, nodes in results.items()]
        for path, outputs in [*goals, ("", self._exported.results)]:
            part = self._slice(outputs, owner)
            for node in part.nodes:
                if node in computed_in and self._is_heavy[node] and not _is_size(node):
                    self.skipped = (computed_in[node], self._last_heavy(part, computed_in))
                    return []
                computed_in.setdefault(node, path)
            upstream = tuple(owner.get(argument) for argument in part.arguments)
            done.append(Piece(path or self._last_name(part), part, upstream))
            for position, node in enumerate(outputs):
                owner.setdefault(node, (path, position))
        return done

    def _slice(self, outputs: Sequence[fx.Node], owner: Mapping[fx.Node, object]) -> Slice:
        needed: set[fx.Node] = set()
        sizes: set[fx.Node] = set()
        stack = list(outputs)
        while stack:
            node = stack.pop()
            if node in needed or node in sizes:
                continue
            if _is_size(node) and self._symbol(node) is not None:
                sizes.add(node)
                continue
            needed.add(node)
            if node.op != "placeholder" and node not in owner:
                stack.extend(node.all_input_nodes)
        is_argument = {n: n.op == "placeholder" or n in owner for n in needed}
        arguments = sorted((n for n in needed if is_argument[n]), key=self._order.__getitem__)
        body = sorted((n for n in needed if not is_argument[n]), key=self._order.__getitem__)
        reads = [self._read(n, arguments) for n in sorted(sizes, key=self._order.__getitem__)]
        arguments.sort(key=self._order.__getitem__)
        return Slice(tuple(body), tuple(arguments), tuple(outputs), tuple(reads))

    def _symbol(self, node: fx.Node) -> str | None:
        if node not in self._symbols:
            name = str(node.meta["val"])
            self._symbols[node] = name if name in self._exported.symbols else None
        return self._symbols[node]

    def _read(self, size: fx.Node, arguments: list[fx.Node]) -> tuple[fx.Node, fx.Node, int]:
        """Where a stage reads `size`; an input of the model is added where no argument has it."""
        symbol = self._symbol(size)
        for argument in arguments:
            for dim, length in enumerate(argument.meta["val"].shape):
                if isinstance(length, torch.SymInt) and str(length) == symbol:
                    return size, argument, dim
        position, dim = self._exported.symbols[str(symbol)]
        arguments.append(self._exported.placeholders[position])
        return size, self._exported.placeholders[position], dim

    def _last_heavy(self, part: Slice, computed_in: Mapping[fx.Node, str]) -> fx.Node:
        """The value nearest to the later stage that an earlier one already computes."""
        here = set(part.nodes)
        again = {n for n in here if n in computed_in and self._is_heavy[n]}
        border = [n for n in again if n in part.outputs or (here & set(n.users)) - again]
        node = max(border, key=self._order.__getitem__)
        if not isinstance(node.meta.get("val"), torch.Tensor):
            raise CutError(
                f"cut {computed_in[node]!r}: a later stage needs a {type(node.meta.get('val')).__name__} "
                f"({node.name}) from inside it, which no entry can hold; cut elsewhere"
            )
        return node

    def _last_name(self, part: Slice) -> str:
        """The module that holds all operators of the last stage, else the only output, else `output`."""
        tops = {(module_paths(n) or [""])[0] for n in part.nodes if n.op == "call_function"}
        if len(tops) == 1 and (top := tops.pop()):
            return top
        names = [spec.name for spec in self._exported.outputs]
        return names[0] if len(names) == 1 else "output"


def _has_rows(node: fx.Node, rows: frozenset[object]) -> bool:
    """False if `node` is the same for all rows, as rotary positions are: computed again, never stored."""
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return True
    dims: tuple[object, ...] = tuple(value.shape)
    return any(
        isinstance(d, torch.SymInt) and not rows.isdisjoint(d.node.expr.free_symbols) for d in dims
    )


def _is_size(node: fx.Node) -> bool:
    return isinstance(node.meta.get("val"), torch.SymInt)
