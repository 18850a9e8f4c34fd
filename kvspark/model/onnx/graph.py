"""An ONNX file as a graph that can be cut: what each value needs, and what it looks like for a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from kvspark.errors import ExportError, ModelError
from kvspark.model.onnx.file import load_file
from kvspark.model.onnx.outputs import output_specs
from kvspark.model.run.onnx_computation import first_line, open_session
from kvspark.model.stage.names import names_of
from kvspark.spec import TensorSpec

Arrays = dict[str, npt.NDArray[np.generic]]

DTYPES: Mapping[str, int] = {
    "float32": onnx.TensorProto.FLOAT,
    "float64": onnx.TensorProto.DOUBLE,
    "float16": onnx.TensorProto.FLOAT16,
    "int8": onnx.TensorProto.INT8,
    "int16": onnx.TensorProto.INT16,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
    "uint8": onnx.TensorProto.UINT8,
    "bool": onnx.TensorProto.BOOL,
}
"""ONNX's number of each dtype. bfloat16 is missing: onnxruntime gives numpy no such array."""

_NAMES = {number: name for name, number in DTYPES.items()}

_RUNTIME_NAMES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    **{f"tensor({name})": name for name in DTYPES},
}
"""What onnxruntime calls the dtypes."""

HEAVY = frozenset(
    "Conv ConvTranspose ConvInteger QLinearConv DeformConv MatMul MatMulInteger QLinearMatMul Gemm "
    "Einsum LSTM GRU RNN Attention".split()
)
"""Operators that a stage must not compute again only because a value of another stage needs them."""

RANDOM = frozenset(
    "RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli".split()
)

_DIMS = ((2, 8), (3, 8), (2, 12))
"""Rows and lengths of the runs that show which dimensions follow which."""


@final
@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """A model in one graph, without functions of its own."""

    model: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: Mapping[str, onnx.TensorProto]
    producers: Mapping[str, int]
    """The node that makes each value, by its place in the file."""
    specs: Mapping[str, TensorSpec]
    """What a row has of each value; values whose rows cannot be told apart are left out."""
    reached: frozenset[str]
    """The values that depend on an input of the model."""
    heavy: frozenset[str]
    """Those of them with matrix work behind them."""

    @property
    def length_groups(self) -> tuple[tuple[str, ...], ...]:
        """The inputs whose varying dimension has one name, where the file has several; one without is alone."""
        free = {spec.name for spec in self.inputs if None in spec.shape}
        found: dict[str, list[str]] = {}
        for value in self.model.graph.input:
            if value.name in free:
                dim = value.type.tensor_type.shape.dim[1]
                found.setdefault(dim.dim_param or f"of {value.name}", []).append(value.name)
        return tuple(map(tuple, found.values())) if len(found) > 1 else ()

    @property
    def nodes(self) -> Sequence[onnx.NodeProto]:
        """The nodes, each behind those whose values it takes."""
        nodes: Sequence[onnx.NodeProto] = self.model.graph.node
        return nodes


def read_graph(
    path: Path, variable_length: Sequence[str] | None, chosen: Sequence[str] | None = None
) -> OnnxGraph:
    """The graph in the file `path`, its external data included, with its own outputs or the `chosen` values.

    Rows vary in the dimension behind the batch of the inputs `variable_length`; None: where it is free.

    Raises:
        ExportError: it is no ONNX model, its rows cannot be told apart, or they depend on chance.
    """
    model = load_file(path)
    if model.graph.sparse_initializer:
        raise ExportError(f"{path} has sparse weights, which are not supported; export it dense")
    _check_nodes(model.graph)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    values = [value for value in model.graph.input if value.name not in weights]
    unknown = [
        name
        for name in names_of("variable_length", variable_length or ())
        if name not in {value.name for value in values}
    ]
    if unknown or not values:
        raise ExportError(
            f"variable_length names {unknown[:1]}; the inputs of {path} are "
            f"{[value.name for value in values]}"
        )
    inputs = tuple(_input_spec(value, variable_length) for value in values)
    specs = {**{spec.name: spec for spec in inputs}, **_probe(model, inputs)}
    outputs = output_specs(model.graph, specs, chosen)
    if chosen is not None:
        del model.graph.output[:]
        model.graph.output.extend(value_info(spec.name, spec) for spec in outputs)
    reached, heavy = _followed(model.graph.node, inputs)
    return OnnxGraph(
        model,
        inputs,
        outputs,
        weights,
        {name: i for i, node in enumerate(model.graph.node) for name in node.output if name},
        specs,
        reached,
        heavy,
    )


def value_info(name: str, spec: TensorSpec) -> onnx.ValueInfoProto:
    """What a graph says of a value that has a row of `spec` for each row."""
    return helper.make_tensor_value_info(name, DTYPES[spec.dtype], ["rows", *spec.shape])


def needed(node: onnx.NodeProto) -> list[str]:
    """The values that `node` takes, those that its subgraphs take from outside included."""
    names = [name for name in node.input if name]
    for graph in subgraphs(node):
        known = {value.name for value in graph.input} | {t.name for t in graph.initializer}
        for inner in graph.node:
            names += [name for name in needed(inner) if name not in known]
            known.update(inner.output)
        names += [value.name for value in graph.output if value.name not in known]
    return list(dict.fromkeys(names))


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that `node` runs: branches and bodies of loops."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def example_arrays(inputs: Sequence[TensorSpec], *, rows: int, length: int) -> Arrays:
    """Values for `inputs`, the same each time: normal, and 0 or 1 where they may be indices."""
    generator = np.random.default_rng(11)
    arrays: Arrays = {}
    for spec in inputs:
        shape = (rows, *(length if dim is None else dim for dim in spec.shape))
        if spec.dtype.startswith("float"):
            made: Any = generator.standard_normal(shape)
        else:
            made = generator.integers(0, 2, size=shape)
        arrays[spec.name] = np.ascontiguousarray(made.astype(spec.numpy_dtype))
    return arrays


def _check_nodes(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        is_training = node.op_type == "BatchNormalization" and any(
            attribute.name == "training_mode" and attribute.i for attribute in node.attribute
        )
        if node.op_type in RANDOM or is_training:
            why = "uses statistics of its batch" if is_training else "draws random numbers"
            raise ExportError(
                f"node {node.name or node.output[0]!r} ({node.op_type}) {why}, so a row has no "
                "result of its own; export the model in evaluation mode"
            )
        for inner in subgraphs(node):
            _check_nodes(inner)


def _input_spec(value: onnx.ValueInfoProto, variable_length: Sequence[str] | None) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = _NAMES.get(tensor.elem_type)
    if not value.type.HasField("tensor_type") or dtype is None:
        number = tensor.elem_type
        kind = onnx.TensorProto.DataType.Name(number) if number else "no tensor"
        raise ExportError(f"input {value.name!r} is {kind}; expected one of {', '.join(DTYPES)}")
    # A size that is free has a name, or nothing, or -1.
    dims = [dim.dim_value if dim.dim_value > 0 else None for dim in tensor.shape.dim]
    if not dims or dims[0] is not None:
        raise ExportError(
            f"input {value.name!r} has shape {dims}: its first dimension is not a free batch; export "
            "the model with a dynamic batch size"
        )
    is_free = dims[1:2] == [None]
    is_variable = is_free if variable_length is None else value.name in variable_length
    if is_variable and len(dims) < 2:
        raise ExportError(f"input {value.name!r} has no dimension behind the batch that can vary")
    shape = (None, *dims[2:]) if is_variable else tuple(dims[1:])
    if None in shape[1:] or (None in shape and not is_variable):
        raise ExportError(
            f"input {value.name!r} has shape {dims} with a free dimension behind the batch; only "
            "the first one may vary from row to row, fix all others when the model is exported"
        )
    return TensorSpec(value.name, dtype, shape)


def _probe(model: onnx.ModelProto, inputs: Sequence[TensorSpec]) -> dict[str, TensorSpec]:
    """What a row has of every value, as runs of several sizes show it.

    Shape inference stops at the first Reshape whose sizes are computed; a run does not.
    """
    import onnxruntime

    names = [name for node in model.graph.node for name in node.output if name]
    probed = onnx.ModelProto()
    probed.CopyFrom(model)
    del probed.graph.output[:]
    probed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    varies = any(None in spec.shape for spec in inputs)
    runs = []
    try:
        session = open_session(probed.SerializeToString(), threads=1)
        for rows, length in _DIMS if varies else _DIMS[:2]:
            arrays = example_arrays(inputs, rows=rows, length=length)
            feeds = {n: onnxruntime.OrtValue.ortvalue_from_numpy(a) for n, a in arrays.items()}
            runs.append(session.run_with_ort_values(names, feeds))
    except ModelError:
        raise
    except Exception as error:  # onnxruntime's and protobuf's errors have no common root
        raise ExportError(
            f"onnxruntime cannot run the model on rows of zeros, ones and normal numbers "
            f"({type(error).__name__}: {first_line(error)}); run it there first"
        ) from error
    by_value = zip(*runs, strict=True)
    made = [_probed_spec(name, values) for name, values in zip(names, by_value, strict=True)]
    return {spec.name: spec for spec in made if spec is not None}


def _probed_spec(name: str, values: Sequence[Any]) -> TensorSpec | None:
    if not all(value.is_tensor() for value in values):
        return None
    dtype = _RUNTIME_NAMES.get(values[0].data_type())
    shapes = [tuple(value.shape()) for value in values]
    first, more_rows = shapes[:2]
    has_rows = all(s and s[0] == rows for s, (rows, _) in zip(shapes, _DIMS, strict=False))
    if dtype is None or not has_rows or first[1:] != more_rows[1:]:
        return None
    longer = shapes[-1]
    if len(longer) != len(first):
        return None
    dims = (a if a == b else None for a, b in zip(first[1:], longer[1:], strict=True))
    return TensorSpec(name, dtype, tuple(dims))


def _followed(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[TensorSpec]
) -> tuple[frozenset[str], frozenset[str]]:
    """The values that depend on an input, and those of them with matrix work behind them."""
    reached = {spec.name for spec in inputs}
    heavy: set[str] = set()
    for node in nodes:
        names = needed(node)
        if reached.isdisjoint(names):
            continue
        made = [name for name in node.output if name]
        reached.update(made)
        is_heavy = node.op_type in HEAVY or node.domain not in ("", "ai.onnx")
        # A size is read off whatever has it; the work behind the tensor is not behind its size.
        if node.op_type != "Shape" and (
            is_heavy or any(subgraphs(node)) or not heavy.isdisjoint(names)
        ):
            heavy.update(made)
    return frozenset(reached), frozenset(heavy)
