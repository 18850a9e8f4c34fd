"""What one row costs each operator of a graph, counted without computing it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, final

import torch
from torch import fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode

from kvspark.model.run.program import PASSING
from kvspark.model.stage.rows_of_call import NOTHING, Work
from kvspark.model.torch.export import Exported

_META = torch.device("meta")
_ROWS = 1009
"""Of the call that is counted: a prime, so that a tensor whose first dimension is a multiple of it has rows there."""
_LENGTH = 64
"""Of a row whose length varies: what a user's example happens to have may not choose the stages."""

Works = Mapping[fx.Node, Work | None]
"""Of each operator of a graph; None where nobody can count."""


def works_of(exported: Exported) -> Works:
    """What one row costs each operator of `exported`; a row that varies in length has 64 items.

    Operations are counted as torch.utils.flop_counter counts them, on tensors without memory.
    """
    counter = _Counter(exported)
    with torch.no_grad():
        counter.run(*counter.arguments())
    return counter.works


def work_of(nodes: Iterable[fx.Node], works: Works) -> Work | None:
    """What one row costs `nodes` together; None where that of one is not known."""
    total = NOTHING
    for node in nodes:
        one = works.get(node, NOTHING)
        if one is None:
            return None
        total += one
    return total


@final
class _Counter(fx.Interpreter):
    """Runs a graph on tensors without memory, and notes what each node costs."""

    def __init__(self, exported: Exported) -> None:
        super().__init__(exported.graph)
        self.works: dict[fx.Node, Work | None] = {}
        self._exported = exported
        self._sizes = {name: self._size(*at) for name, at in exported.symbols.items()}
        """Of the call, by symbol."""

    def _size(self, place: int, dim: int) -> int:
        if dim == 0:
            return _ROWS
        least, most = self._exported.lengths.get(self._exported.inputs[place].name, (0, None))
        return max(least, _LENGTH if most is None else min(_LENGTH, most))

    def arguments(self) -> list[object]:
        """The inputs of the call."""
        return [self._made_up(node.meta["val"]) for node in self._exported.placeholders]

    def run_node(self, n: fx.Node) -> object:
        if n.op != "call_function":
            return super().run_node(n)
        operators = Operators()
        try:
            with FlopCounterMode(display=False) as counted, operators:
                made: object = super().run_node(n)
        except Exception:  # noqa: BLE001 - an operator that needs values raises what it likes
            self.works[n] = None
            return self._made_up(n.meta.get("val"))
        self.works[n] = Work(
            operations=counted.get_total_flops() / _ROWS,
            moved_bytes=operators.moved_bytes / _ROWS,
            widest_bytes=operators.widest_bytes / _ROWS,
            operators=operators.count,
        )
        if str(n.target) in PASSING:
            self.works[n] = NOTHING
        return made

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> object:
        found: object = super().get_attr(target, args, kwargs)
        if not isinstance(found, torch.Tensor):
            return found
        plain = found.detach().to(_META)
        # As a program has it: torch multiplies by a parameter in another way.
        is_parameter = isinstance(found, torch.nn.Parameter) and found.is_floating_point()
        return torch.nn.Parameter(plain) if is_parameter else plain

    def call_function(self, target: Any, args: Any, kwargs: Any) -> object:
        args, kwargs = tree_map(_on_meta, (args, kwargs))
        result: object = super().call_function(target, args, kwargs)
        return result

    def _made_up(self, value: object) -> object:
        """What has the shape of `value`, which is what a node gives in the graph."""
        if isinstance(value, torch.Tensor):
            shape = [self._made_up(size) for size in value.shape]
            return torch.empty(shape, dtype=value.dtype, device=_META)  # type: ignore[arg-type]  # ints by now
        if isinstance(value, torch.SymInt):
            known: Any = value.node.expr
            return int(known.subs({s: self._sizes.get(str(s), _ROWS) for s in known.free_symbols}))
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [self._made_up(item) for item in value]
        return value


def _on_meta(value: object) -> object:
    return _META if isinstance(value, torch.device) else value


@final
class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
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
