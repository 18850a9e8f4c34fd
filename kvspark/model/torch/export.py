"""torch.export of a module: one graph of operators and weights, with named inputs and outputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, final

import torch
from torch import fx, nn

from kvspark.errors import ExportError
from kvspark.model.run.operators import WRAPPER, check_repeatable, operator_name, place
from kvspark.model.run.outputs import Named
from kvspark.model.stage.names import names_of
from kvspark.model.torch.context_regions import drop_writes, inline_regions, is_plain
from kvspark.model.torch.export_errors import Dims, check_runs, refusal
from kvspark.model.torch.quiet import quiet_failures
from kvspark.model.torch.recurrent import recurrent_shapes
from kvspark.model.torch.row_independence import check_companions
from kvspark.spec import ITEM_BYTES, TensorSpec

Tensors = Mapping[str, torch.Tensor]

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
    _check_module(module)
    _check_inputs(example_inputs, names_of("variable_length", variable_length))
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


def unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The module inside wrappers that change its names and none of its bits."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(compiled := getattr(module, "_orig_mod", None), nn.Module):
            module = compiled  # torch.compile
        else:
            return module


def _export(
    wrapper: torch.nn.Module, examples: tuple[torch.Tensor, ...], free: Dims
) -> torch.export.ExportedProgram:
    with torch.no_grad(), recurrent_shapes(), quiet_failures(), warnings.catch_warnings():
        # torch.export calls torch's own deprecated functions, which no user can change.
        warnings.simplefilter("ignore")
        program = torch.export.export(wrapper, examples, dynamic_shapes=(free,))
        return program if is_plain(program.graph_module) else program.run_decompositions({})


def _check_module(module: Any) -> None:
    # Any: the caller may pass anything, whatever the types say.
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        raise ExportError(
            f"a {type(module).__qualname__} cannot be exported; pass the torch.nn.Module that it was made of"
        )
    if torch.is_autocast_enabled("cpu"):
        raise ExportError(
            "torch.autocast is on around the export, which would not be seen when rows are scored; "
            "leave its block first, or use autocast inside the model's forward"
        )
    quantised = [path for path, part in module.named_modules() if _is_quantised(part)]
    if quantised:
        raise ExportError(
            f"{quantised[0] or 'the model'} is a module of torch's eager quantisation, which torch.export "
            'cannot capture; pass the module as it was before, and dtype="bfloat16" for half the memory, or '
            "export it to ONNX and quantise that file statically"
        )
    training = [path or "the model" for path, part in module.named_modules() if part.training]
    if training:
        more = f" (and {len(training) - 1} more modules)" if len(training) > 1 else ""
        raise ExportError(f"{training[0]} is in training mode{more}; call model.eval() first")


def _is_quantised(part: nn.Module) -> bool:
    """True for what quantize_dynamic and convert put in the place of a module."""
    origin = type(part).__module__
    is_float = origin.endswith(
        ".functional_modules"
    )  # what a float model has, to be quantised later
    return origin.startswith("torch.ao.nn.") and ".quantized." in f"{origin}." and not is_float


def _check_inputs(example_inputs: Tensors, variable_length: Sequence[str]) -> None:
    if not isinstance(example_inputs, Mapping):
        raise ExportError(
            f"example_inputs is a {type(example_inputs).__name__}; pass a dict of tensors, named as forward "
            "names its arguments: {'x': tensor}"
        )
    if not example_inputs:
        raise ExportError("example_inputs is empty; pass a dict of tensors with the batch first")
    for name, tensor in example_inputs.items():
        # getattr: the caller may pass anything, an array say.
        if not getattr(tensor, "shape", ()) or not hasattr(tensor, "element_size"):
            raise ExportError(
                f"example input {name!r} must be a tensor with the batch first, got "
                f"{type(tensor).__name__}; torch.as_tensor makes one"
            )
        if not len(tensor):
            raise ExportError(f"example input {name!r} has no rows; give it one or more")
        if _dtype_name(tensor.dtype) not in ITEM_BYTES:
            raise ExportError(
                f"example input {name!r} has dtype {tensor.dtype}, which no column can hold"
            )
    if len({len(tensor) for tensor in example_inputs.values()}) != 1:
        sizes = {name: len(tensor) for name, tensor in example_inputs.items()}
        raise ExportError(f"the example inputs have different batch sizes: {sizes}")
    unknown = [name for name in variable_length if name not in example_inputs]
    if unknown:
        raise ExportError(
            f"variable_length names {unknown[0]!r}, which is no example input: {list(example_inputs)}"
        )


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
    dtype = _dtype_name(value.dtype)
    if dtype not in ITEM_BYTES:
        raise ExportError(
            f"{name!r} has dtype {value.dtype}; expected one of {', '.join(ITEM_BYTES)}"
        )
    shape = tuple(None if _symbols([dim]) else int(dim) for dim in dims[1:])
    return TensorSpec(name, dtype, shape)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
