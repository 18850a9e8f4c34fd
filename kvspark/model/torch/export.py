"""torch.export of a module: one graph of operators and weights, with named inputs and outputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import torch
from torch import fx

from kvspark.errors import ExportError
from kvspark.model.run.operators import WRAPPER, check_repeatable, operator_name, place
from kvspark.model.run.outputs import Named
from kvspark.model.stage.names import names_of
from kvspark.model.torch.context_regions import drop_writes, inline_regions, is_plain
from kvspark.model.torch.export_errors import Dims, check_runs, quiet_failures, refusal
from kvspark.model.torch.exportable import (
    Tensors,
    check_inputs,
    check_module,
    dtype_name,
    unwrapped,
)
from kvspark.model.torch.recurrent import recurrent_shapes
from kvspark.model.torch.row_independence import check_companions
from kvspark.spec import ITEM_BYTES, TensorSpec

_ANY = 1 << 31
"""A size that no tensor has: what is above is no limit."""


@final
@dataclass(frozen=True, slots=True)
class Exported:
    """A model as a graph."""

    graph: fx.GraphModule
    inputs: tuple[TensorSpec, ...]
    placeholders: tuple[fx.Node, ...]
    """One for each input."""
    outputs: tuple[TensorSpec, ...]
    results: tuple[fx.Node, ...]
    """One for each output."""
    symbols: Mapping[str, tuple[int, int]]
    """Where to read a symbolic size: its name -> (position of an input, dimension)."""
    lengths: Mapping[str, tuple[int, int | None]] = field(default_factory=dict)
    """The shortest and the longest rows that the graph holds for, input by input, where a dimension varies."""


def export_module(
    module: torch.nn.Module,
    example_inputs: Tensors,
    variable_length: Sequence[str],
    *,
    dtype: torch.dtype | None = None,
    single_rows: bool = False,
) -> Exported:
    """The graph of `module`, with a free batch size, and a free first dimension for `variable_length`.

    With `dtype`, floats are cast to it where they enter the module, and to float32 where they leave it.
    With `single_rows` it is called with one row, so rows may change each other.

    Raises:
        ExportError: the module is in training mode, or torch.export cannot capture it; says why.
    """
    module = unwrapped(module)
    check_module(module)
    check_inputs(example_inputs, names_of("variable_length", variable_length))
    names = tuple(example_inputs)
    wrapper = Named(module, names, dtype)
    examples = tuple(
        _at_least_two(tensor, varies=name in variable_length).detach()
        for name, tensor in example_inputs.items()
    )
    check_runs(wrapper, examples)
    dynamic = torch.export.Dim.DYNAMIC
    free: Dims = tuple(
        {0: dynamic, 1: dynamic} if name in variable_length else {0: dynamic} for name in names
    )
    try:
        program = _export(wrapper, examples, free)
    except ExportError:
        raise
    except Exception as error:  # torch.export raises whatever the module's own code raises
        retry = partial(_export, wrapper, examples)
        raise refusal(wrapper, names, examples, free, error, retry) from error
    exported = _exported(program, names)
    if not single_rows:
        check_companions(exported.graph, exported.results, _row_dims(exported), examples)
    return exported


def _export(
    wrapper: torch.nn.Module, examples: tuple[torch.Tensor, ...], free: Dims
) -> torch.export.ExportedProgram:
    with torch.no_grad(), recurrent_shapes(), quiet_failures(), warnings.catch_warnings():
        # torch.export calls torch's own deprecated functions, which no user can change.
        warnings.simplefilter("ignore")
        program = torch.export.export(wrapper, examples, dynamic_shapes=(free,))
        return program if is_plain(program.graph_module) else program.run_decompositions({})


def _at_least_two(tensor: torch.Tensor, *, varies: bool) -> torch.Tensor:
    """`tensor` with two rows or more, and a length of two or more where it `varies`."""
    # torch.export takes a size of 1 for a constant.
    rows = tensor if len(tensor) > 1 else torch.cat([tensor, tensor])
    return torch.cat([rows, rows], 1) if varies and rows.shape[1:2] == (1,) else rows


def _exported(program: torch.export.ExportedProgram, inputs: tuple[str, ...]) -> Exported:
    spec = program.call_spec.out_spec
    assert spec is not None
    outputs = tuple(spec.context)  # the keys of the dict that Named returns
    graph = program.module(check_guards=False)
    inline_regions(graph)
    drop_writes(graph)
    placeholders = tuple(node for node in graph.graph.nodes if node.op == "placeholder")
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    results = tuple(_leaves(output.args[0]))
    if len(placeholders) != len(inputs) or len(results) != len(outputs):
        raise ExportError(
            f"the graph has {len(placeholders)} inputs and {len(results)} outputs, "
            f"the module {len(inputs)} and {len(outputs)}"
        )
    _check_nodes(graph, live_nodes(results), program.graph_signature.buffers_to_mutate)
    symbols: dict[str, tuple[int, int]] = {}
    for position, node in enumerate(placeholders):
        for dim, size in enumerate(node.meta["val"].shape):
            if isinstance(size, torch.SymInt):
                symbols.setdefault(str(size), (position, dim))
    _check_any_rows(program, placeholders)
    return Exported(
        graph,
        tuple(map(tensor_spec, inputs, placeholders)),
        placeholders,
        tuple(map(tensor_spec, outputs, results)),
        results,
        symbols,
        {n: _range(program, [p], 1) for n, p in zip(inputs, placeholders, strict=True)},
    )


def _range(
    program: torch.export.ExportedProgram, placeholders: Sequence[fx.Node], dim: int
) -> tuple[int, int | None]:
    """The least and the greatest size of dimension `dim` of the inputs that the graph holds for."""
    least, most = 0, None
    for node in placeholders:
        for symbol in _symbols(node.meta["val"].shape[dim : dim + 1]):
            one: Any = program.range_constraints.get(symbol)
            if one is None:
                continue
            least = max(least, int(one.lower))
            if one.upper < _ANY:  # torch's own infinity is no number
                most = min(int(one.upper), most or _ANY)
    return least, most


def _check_any_rows(program: torch.export.ExportedProgram, placeholders: Sequence[fx.Node]) -> None:
    least, most = _range(program, placeholders, 0)
    # torch.export takes 0 and 1 for constants, so each free size begins with 2.
    if most is not None or least > 2:
        raise ExportError(
            f"the module does something else for fewer than {least} or more than {most or 'any'} rows: "
            "a branch on the size of the batch; let it work on each row alone"
        )


def _leaves(value: Any) -> list[fx.Node]:
    if isinstance(value, fx.Node):
        return [value]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _leaves(item)]
    raise ExportError(
        f"the model returns a constant ({type(value).__qualname__}) where a tensor is expected"
    )


def live_nodes(results: Sequence[fx.Node]) -> set[fx.Node]:
    """The nodes that `results` need."""
    live: set[fx.Node] = set()
    stack = list(results)
    while stack:
        node = stack.pop()
        if node not in live:
            live.add(node)
            stack.extend(node.all_input_nodes)
    return live


def _check_nodes(graph: fx.GraphModule, live: set[fx.Node], written: Mapping[str, str]) -> None:
    """Returns if every operator that a result needs is a pure function of the rows' shapes and values.

    `written` has the buffers that a call of the model changes.
    """
    inputs = graph.graph.find_nodes(op="placeholder")
    known = _symbols(size for node in inputs for size in node.meta["val"].shape)
    for node in graph.graph.nodes:
        if node not in live:
            continue
        if node.op == "get_attr" and node.target in written.values():
            raise ExportError(
                f"buffer {node.target.removeprefix(WRAPPER + '.')!r} is changed by every call of the "
                "model, and its results depend on it; they cannot be re-used"
            )
        if node.op == "call_function":
            operator_name(node)
            check_repeatable(node)
            if not _symbols(getattr(node.meta.get("val"), "shape", ())) <= known:
                raise ExportError(
                    f"operator {node.target} at {place(node)} gives a tensor whose size depends on "
                    "values, so rows would be computed in other shapes among other rows; use a mask"
                )


def _symbols(sizes: Iterable[object]) -> frozenset[object]:
    """The symbols in `sizes`."""
    return frozenset().union(
        *(size.node.expr.free_symbols for size in sizes if isinstance(size, torch.SymInt))
    )


def row_symbols(node: fx.Node) -> frozenset[object]:
    """The symbols that stand for the number of rows in the graph of `node`."""
    inputs = node.graph.find_nodes(op="placeholder")
    return _symbols(one.meta["val"].shape[0] for one in inputs)


def _row_dims(exported: Exported) -> dict[fx.Node, int]:
    """The nodes that have a dimension for the rows, or for several lines of each, and which it is."""
    rows = row_symbols(exported.placeholders[0])
    found: dict[fx.Node, int] = {}
    for node in exported.graph.graph.nodes:
        for dim, size in enumerate(getattr(node.meta.get("val"), "shape", ())):
            if not rows.isdisjoint(_symbols([size])):
                found.setdefault(node, dim)
    return found


def tensor_spec(name: str, node: fx.Node) -> TensorSpec:
    """What `node` gives for one row.

    Raises:
        ExportError: its first dimension is not the batch, or no column can hold its dtype.
    """
    value = node.meta.get("val")
    if not isinstance(value, torch.Tensor):
        raise ExportError(
            f"{name!r} is a {type(value).__qualname__}; expected a tensor with the batch first"
        )
    # torch annotates a shape as ints; in a graph a free size is a SymInt.
    dims: tuple[Any, ...] = tuple(value.shape)
    rows = row_symbols(node)
    if not dims or not isinstance(dims[0], torch.SymInt) or dims[0].node.expr not in rows:
        raise ExportError(
            f"{name!r} has shape {dims} in the graph: its first dimension is not the batch, "
            "so rows cannot be told apart"
        )
    if not rows.isdisjoint(_symbols(dims[1:])):
        raise ExportError(
            f"{name!r} has shape {dims} in the graph: a row of it grows with the number of rows, so "
            f"operator {node.target} at {place(node)}, or one before it, mixes rows"
        )
    dtype = dtype_name(value.dtype)
    if dtype not in ITEM_BYTES:
        raise ExportError(
            f"{name!r} has dtype {value.dtype}; expected one of {', '.join(ITEM_BYTES)}"
        )
    shape = tuple(None if _symbols([dim]) else int(dim) for dim in dims[1:])
    return TensorSpec(name, dtype, shape)
