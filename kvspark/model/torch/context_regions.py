"""Regions and writes: what ran under `torch.no_grad()` or `torch.autocast` becomes part of the graph.

torch.export keeps such a region as a nested graph that a higher-order operator calls. Without
gradients a gradient mode changes nothing, and neither does an autocast that is switched off, so the
operators inside can stand in the outer graph, where they keep their module paths and can be cut. An
autocast that is switched on changes dtypes: torch makes its casts explicit (`needs_casts`).
What forward writes into inputs and buffers is taken out as well: a stage writes nothing.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from kvspark.model.run.operators import is_mutable

_GRAD, _AUTOCAST = "wrap_with_set_grad_enabled", "wrap_with_autocast"
_STATE = ("placeholder", "get_attr")
_LEADING = {_GRAD: 1, _AUTOCAST: 4}
"""Arguments of each operator before the nested graph: (enabled) and (device, dtype, enabled, cache)."""


def is_plain(graph: fx.GraphModule) -> bool:
    """False if `graph`, or one nested in it, writes in place or casts on its own."""
    nodes = [
        n for part in graph.modules() if isinstance(part, fx.GraphModule) for n in part.graph.nodes
    ]
    return not any(is_mutable(node) or needs_casts(node) for node in nodes)


def needs_casts(node: fx.Node) -> bool:
    """True for a region under an autocast that is switched on."""
    return _region(node) == _AUTOCAST and node.args[2] is True


def inline_regions(module: fx.GraphModule) -> None:
    """Puts the operators of every region of `module` into its own graph, in place."""
    while regions := [node for node in module.graph.nodes if _region(node)]:
        for node in regions:
            _inline(module, node)
    module.recompile()


def drop_writes(module: fx.GraphModule) -> None:
    """Takes out, in place, the copies back into inputs and buffers that torch puts at the end.

    The value that would be written stays as the result; whoever reads a buffer that is written
    is refused elsewhere.
    """
    for node in list(module.graph.nodes):
        if node.target is torch.ops.aten.copy_.default and node.args[0].op in _STATE:
            node.replace_all_uses_with(node.args[1])
            module.graph.erase_node(node)
    module.recompile()


def _region(node: fx.Node) -> str | None:
    name = getattr(node.target, "__name__", "")
    return name if node.op == "call_function" and name in _LEADING else None


def _inline(module: fx.GraphModule, node: fx.Node) -> None:
    """Replaces one call of a nested graph by copies of its nodes."""
    called, *given = node.args[_LEADING[str(_region(node))] :]
    assert isinstance(called, fx.Node)
    prefix = str(called.target)
    nested = module.get_submodule(prefix)
    assert isinstance(nested, fx.GraphModule)
    copies: dict[fx.Node, Any] = {}
    results: Any = ()
    with module.graph.inserting_before(node):
        arguments = iter(given)
        for inner in nested.graph.nodes:
            if inner.op == "placeholder":
                copies[inner] = next(arguments)
            elif inner.op == "output":
                results = fx.map_arg(inner.args[0], lambda n: copies[n])
            else:
                copies[inner] = module.graph.node_copy(inner, lambda n: copies[n])
                if inner.op == "get_attr":
                    copies[inner].target = f"{prefix}.{inner.target}"
    for user in list(node.users):  # torch reads each result by getitem
        user.replace_all_uses_with(results[user.args[1]])
        module.graph.erase_node(user)
    module.graph.erase_node(node)
    module.graph.erase_node(called)
