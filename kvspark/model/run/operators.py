"""The operators that a program may call, and the names that they have on disk.

A program on disk is data: it can name operators of torch's own `aten` namespace and the few Python
functions below, and nothing else, so that loading one runs no foreign code.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from kvspark.errors import BundleError, ExportError

PYTHON_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "pow": operator.pow,
    "neg": operator.neg,
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "getitem": operator.getitem,
    "ceil": math.ceil,
    "floor": math.floor,
    "trunc": math.trunc,
    "and": operator.and_,
    "or": operator.or_,
    "pos": operator.pos,
    "abs": operator.abs,
    "round": round,
    "sym_sum": torch.sym_sum,
    "sym_max": torch.sym_max,
    "sym_min": torch.sym_min,
    "sym_not": torch.sym_not,
    "sym_float": torch.sym_float,
    "sym_int": torch.sym_int,
    "sym_ite": torch.sym_ite,
}
_NAMES = {function: name for name, function in PYTHON_FUNCTIONS.items()}

HEAVY = frozenset(
    "linear matmul mm bmm addmm addbmm baddbmm addmv mv einsum bilinear tensordot "
    "conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d "
    "scaled_dot_product_attention lstm gru rnn_tanh rnn_relu embedding_bag".split()
)
"""Operators that a stage must not compute again only because a value of another stage needs them."""


def operator_name(node: fx.Node) -> str:
    """The name on disk of the operator that `node` calls.

    Raises:
        ExportError: it is not one that a program may call; names the operator and the module.
    """
    target = node.target
    if isinstance(target, torch._ops.OpOverload) and target.namespace == "aten":
        return f"aten.{target._opname}.{target._overloadname}"
    if target in _NAMES:
        return f"python.{_NAMES[target]}"
    raise ExportError(
        f"operator {target} at {place(node)} cannot be part of a stage; "
        "only torch's aten operators can. Replace it, or leave that module out of the model"
    )


def place(node: fx.Node) -> str:
    """Where the model calls the operator of `node`, for a message."""
    return module_path(node) or "the top of the model"


def is_mutable(node: fx.Node) -> bool:
    """True if the operator of `node` writes into one of its arguments."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or target is torch.ops.aten.detach_.default:
        return False  # detach_ forgets the gradient's history, and there is none
    return target._schema.is_mutable


def resolve_operator(name: str) -> Callable[..., Any]:
    """The function that `operator_name` named.

    Raises:
        BundleError: the name is not one that a program may call.
    """
    parts = name.split(".")
    if parts[0] == "python" and len(parts) == 2 and parts[1] in PYTHON_FUNCTIONS:
        return PYTHON_FUNCTIONS[parts[1]]
    if parts[0] == "aten" and len(parts) == 3:
        packet = getattr(torch.ops.aten, parts[1], None)
        found = getattr(packet, parts[2], None)
        if isinstance(found, torch._ops.OpOverload):
            return found
    raise BundleError(
        f"this torch ({torch.__version__}) has no operator {name!r}: the bundle was saved by another "
        "build; save the model again with this one"
    )


def is_heavy(node: fx.Node) -> bool:
    """True if `node` does work that is worth keeping: matrix products, convolutions, recurrences."""
    return isinstance(node.target, torch._ops.OpOverload) and node.target._opname in HEAVY


def module_path(node: fx.Node) -> str:
    """The path of the innermost module that made `node`, "" for the model itself."""
    paths = module_paths(node)
    return paths[-1] if paths else ""


def module_paths(node: fx.Node) -> list[str]:
    """The paths of all modules around `node`, outermost first, "" left out."""
    return list(module_calls(node))


def module_calls(node: fx.Node) -> dict[str, int]:
    """For each module around `node`, outermost first: which of its calls that is, 0 for the first."""
    stack = node.meta.get("nn_module_stack") or {}
    calls: dict[str, int] = {}
    for key, entry in stack.items():
        parts = [part.split("@")[0] for part in str(entry[0]).split(".")]
        # torch.compile wraps a module and has no say in what it computes.
        path = ".".join(part for part in parts[1:] if part != "_orig_mod")
        if path:
            # A module that is called again is recorded as `path@1`.
            again = str(key).rpartition("@")[2]
            calls.setdefault(path, int(again) if "@" in str(key) and again.isdecimal() else 0)
    return calls


WRAPPER = "module"
"""The attribute under which the exported wrapper holds the caller's module."""


def check_repeatable(node: fx.Node) -> None:
    """Return if `node` gives the same bits in every run and changes none of its arguments.

    Raises:
        ExportError: it draws random numbers or writes in place; names the operator and the module.
    """
    target = node.target
    if not isinstance(target, torch._ops.OpOverload):
        return
    where = place(node)
    if is_mutable(node):
        raise ExportError(
            f"operator {target} at {where} writes in place; a stage must be a pure function"
        )
    if torch.Tag.nondeterministic_seeded in target.tags and not _is_switched_off(node, target):
        raise ExportError(
            f"operator {target} at {where} draws random numbers, so its result cannot be re-used; "
            "call model.eval(), or take the operator out"
        )


def _is_switched_off(node: fx.Node, target: torch._ops.OpOverload) -> bool:
    """True if the operator's random part is off: outside training, or with no dropout."""
    values = {a.name: a.default_value for a in target._schema.arguments if a.has_default_value()}
    values.update(zip((a.name for a in target._schema.arguments), node.args, strict=False))
    values.update(node.kwargs)
    if "train" in values or "training" in values:
        return values.get("train", values.get("training")) is False
    return values.get("dropout_p") == 0.0
