"""torch.export of a module: one graph of operators and weights, with named inputs and outputs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import fx

from kvspark.errors import ExportError
from kvspark.model.operators import WRAPPER
from kvspark.spec import ITEM_BYTES, TensorSpec

Tensors = Mapping[str, torch.Tensor]


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


def export_module(
    module: torch.nn.Module, example_inputs: Tensors, variable_length: Sequence[str]
) -> Exported:
    """The graph of `module`, with a free batch size, and a free first dimension for `variable_length`.

    Raises:
        ExportError: the module is in training mode, or torch.export cannot capture it; says why.
    """
    # torch.compile changes no bits that we keep: the module inside is what is exported.
    module = getattr(module, "_orig_mod", module)
    _check_inputs(module, example_inputs, variable_length)
    wrapper = _Named(module, tuple(example_inputs))
    examples = tuple(_at_least_two_rows(tensor) for tensor in example_inputs.values())
    with torch.no_grad():
        names = _output_names(module(**dict(zip(example_inputs, examples, strict=True))))
    dynamic = torch.export.Dim.DYNAMIC
    shapes = tuple(
        {0: dynamic, 1: dynamic} if name in variable_length else {0: dynamic}
        for name in example_inputs
    )
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # torch.export calls torch's own deprecated functions, which no user can change.
            warnings.simplefilter("ignore")
            program = torch.export.export(wrapper, examples, dynamic_shapes=(shapes,))
            if any(_is_mutable(node) for node in program.graph.nodes):
                program = program.run_decompositions({})
    except Exception as error:  # torch.export raises whatever the module's own code raises
        raise ExportError(
            f"torch.export cannot capture {type(module).__name__}: {_first_line(error)}; "
            "rewrite that line without data-dependent Python, or pass the model as from_callable"
        ) from error
    return _exported(program.module(check_guards=False), tuple(example_inputs), names)


@final
class _Named(torch.nn.Module):
    """Calls the module by keyword and returns its tensors as a flat tuple."""

    def __init__(self, module: torch.nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        setattr(self, WRAPPER, module)
        self._names = names

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        result = self.get_submodule(WRAPPER)(**dict(zip(self._names, tensors, strict=True)))
        return tuple(_named_outputs(result).values())


def _check_inputs(
    module: torch.nn.Module, example_inputs: Tensors, variable_length: Sequence[str]
) -> None:
    training = [path or "the model" for path, part in module.named_modules() if part.training]
    if training:
        raise ExportError(
            f"{training[0]} is in training mode (and {len(training) - 1} more modules); call model.eval() first"
        )
    if not example_inputs:
        raise ExportError("example_inputs is empty; pass a dict of tensors with the batch first")
    for name, tensor in example_inputs.items():
        # getattr: the caller may pass anything, an array say.
        if not getattr(tensor, "shape", ()) or not hasattr(tensor, "element_size"):
            raise ExportError(f"example input {name!r} must be a tensor with the batch first")
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


def _at_least_two_rows(tensor: torch.Tensor) -> torch.Tensor:
    # torch.export takes a size of 1 for a constant.
    return tensor if len(tensor) > 1 else torch.cat([tensor, tensor])


def _named_outputs(result: Any) -> dict[str, torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return {"output": result}
    if isinstance(result, Mapping):
        return {str(name): value for name, value in result.items() if value is not None}
    if isinstance(result, list | tuple):
        return {f"output_{i}": value for i, value in enumerate(result)}
    raise ExportError(
        f"forward returned a {type(result).__qualname__}; expected a tensor, a dict or a tuple of tensors"
    )


def _output_names(result: Any) -> tuple[str, ...]:
    outputs = _named_outputs(result)
    for name, value in outputs.items():
        if not isinstance(value, torch.Tensor):
            raise ExportError(f"output {name!r} is a {type(value).__qualname__}; expected a tensor")
    return tuple(outputs)


def _exported(graph: fx.GraphModule, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Exported:
    placeholders = tuple(node for node in graph.graph.nodes if node.op == "placeholder")
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    results = tuple(_leaves(output.args[0]))
    if len(placeholders) != len(inputs) or len(results) != len(outputs):
        raise ExportError(
            f"the graph has {len(placeholders)} inputs and {len(results)} outputs, "
            f"the module {len(inputs)} and {len(outputs)}"
        )
    symbols: dict[str, tuple[int, int]] = {}
    for position, node in enumerate(placeholders):
        for dim, size in enumerate(node.meta["val"].shape):
            if isinstance(size, torch.SymInt):
                symbols.setdefault(str(size), (position, dim))
    return Exported(
        graph,
        tuple(map(tensor_spec, inputs, placeholders)),
        placeholders,
        tuple(map(tensor_spec, outputs, results)),
        results,
        symbols,
    )


def _leaves(value: Any) -> list[fx.Node]:
    if isinstance(value, fx.Node):
        return [value]
    if isinstance(value, list | tuple):
        return [leaf for item in value for leaf in _leaves(item)]
    raise ExportError(
        f"the model returns a constant ({type(value).__qualname__}) where a tensor is expected"
    )


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
    if not dims or not isinstance(dims[0], torch.SymInt):
        raise ExportError(
            f"{name!r} has shape {dims} in the graph: its first dimension is not the batch, "
            "so rows cannot be told apart"
        )
    dtype = _dtype_name(value.dtype)
    if dtype not in ITEM_BYTES:
        raise ExportError(
            f"{name!r} has dtype {value.dtype}; expected one of {', '.join(ITEM_BYTES)}"
        )
    shape = tuple(None if isinstance(dim, torch.SymInt) else int(dim) for dim in dims[1:])
    return TensorSpec(name, dtype, shape)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _is_mutable(node: fx.Node) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
