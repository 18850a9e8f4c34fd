"""The ONNX file of one piece: the bytes that run are the bytes that are hashed.

Values are named anew by their order, weights are in the order of first use, and names of nodes,
comments and the exporter's remarks are left out: what does not count for a result is not in the file.
The order of the nodes is that of the source file, and counts.
"""

from __future__ import annotations

from typing import final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from kvspark.errors import ExportError
from kvspark.model.onnx.cut import OnnxPiece
from kvspark.model.onnx.graph import DTYPES, OnnxGraph, value_info

_PLAIN = frozenset(DTYPES.values())

_LEAST_IR = 4
"""From this version of the format on a weight need not be an input as well."""


def encode_piece(graph: OnnxGraph, piece: OnnxPiece) -> bytes:
    """The model file of `piece`, with the weights that it needs and no others.

    Raises:
        ExportError: the file would be larger than protobuf's 2 GiB.
    """
    writer = _Writer(graph, piece)
    domains = sorted(writer.domains)
    versions = {item.domain or "ai.onnx": item.version for item in graph.model.opset_import}
    missing = [domain for domain in domains if domain not in versions]
    if missing:
        raise ExportError(
            f"the model uses operators of {missing[0]!r} and names no version of them"
        )
    model = helper.make_model(
        writer.made,
        opset_imports=[helper.make_opsetid(_domain(name), versions[name]) for name in domains],
        ir_version=max(graph.model.ir_version, _LEAST_IR),
    )
    model.ClearField("producer_name")
    try:
        content: bytes = model.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf has an error of its own in every version
        raise ExportError(
            f"stage {piece.name!r} cannot be written ({type(error).__name__}); one stage holds less "
            "than 2 GiB, so cut the model into more"
        ) from error
    return content


@final
class _Writer:
    """Copies the nodes of a piece under new names."""

    def __init__(self, graph: OnnxGraph, piece: OnnxPiece) -> None:
        self.made = onnx.GraphProto(name="stage")
        self.domains = {"ai.onnx"}
        self._graph = graph
        self._count = 0
        self._weights: dict[str, str] = {}
        scope: dict[str, str] = {}
        for value in piece.arguments:
            scope[value] = f"i{len(scope)}"
            self.made.input.append(value_info(scope[value], graph.specs[value]))
        for place in piece.nodes:
            node = graph.nodes[place]
            if place in piece.sizes:
                self._measure(node, scope)
            else:
                self.made.node.append(self._node(node, scope))
        for value in piece.outputs:
            name = scope.get(value) or self._weight(value)
            if value in piece.arguments or value in graph.weights:
                # A graph does not give its own input.
                given, name = name, self._name("v")
                self.made.node.append(helper.make_node("Identity", [given], [name]))
            self.made.output.append(value_info(name, graph.specs[value]))

    def _node(self, node: onnx.NodeProto, scope: dict[str, str]) -> onnx.NodeProto:
        made = onnx.NodeProto(op_type=node.op_type)
        domain = node.domain or "ai.onnx"
        self.domains.add(domain)
        if _domain(domain):
            made.domain = domain
        made.input.extend(self._value(name, scope) for name in node.input)
        for attribute in sorted(node.attribute, key=lambda item: item.name):
            made.attribute.append(self._attribute(attribute, scope))
        made.output.extend(self._defined(name, scope) for name in node.output)
        return made

    def _attribute(
        self, attribute: onnx.AttributeProto, scope: dict[str, str]
    ) -> onnx.AttributeProto:
        made = onnx.AttributeProto()
        made.CopyFrom(attribute)
        made.ClearField("doc_string")
        if attribute.HasField("t"):
            made.t.CopyFrom(_plain_tensor(attribute.t, ""))
        if attribute.HasField("g"):
            made.g.CopyFrom(self._subgraph(attribute.g, scope))
        if attribute.graphs:
            del made.graphs[:]
            made.graphs.extend(self._subgraph(graph, scope) for graph in attribute.graphs)
        return made

    def _subgraph(self, graph: onnx.GraphProto, scope: dict[str, str]) -> onnx.GraphProto:
        """A branch or the body of a loop; it sees the values around it."""
        made, inner = onnx.GraphProto(name="body"), dict(scope)
        for value in graph.input:
            made.input.append(_renamed(value, self._defined(value.name, inner)))
        for tensor in graph.initializer:
            made.initializer.append(_plain_tensor(tensor, self._defined(tensor.name, inner)))
        for node in graph.node:
            made.node.append(self._node(node, inner))
        for value in graph.output:
            made.output.append(_renamed(value, self._value(value.name, inner)))
        return made

    def _measure(self, node: onnx.NodeProto, scope: dict[str, str]) -> None:
        """The shape that `node` would give: the rows of the first argument, and constants."""
        spec = self._graph.specs[node.input[0]]
        ends = {attribute.name: attribute.i for attribute in node.attribute}
        dims = [None, *spec.shape][slice(ends.get("start"), ends.get("end"))]
        shape, rows, made = (self._name("v") for _ in range(3))
        if None not in dims:
            parts = [self._constant(dims)]
        else:
            self.made.node.append(helper.make_node("Shape", ["i0"], [shape]))
            first = self._constant([0])
            self.made.node.append(helper.make_node("Gather", [shape, first], [rows], axis=0))
            parts = [rows, self._constant(dims[1:])] if dims[1:] else [rows]
        self.made.node.append(helper.make_node("Concat", parts, [made], axis=0))
        scope[node.output[0]] = made

    def _constant(self, values: list[int | None]) -> str:
        name = self._name("w")
        self.made.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def _value(self, name: str, scope: dict[str, str]) -> str:
        # An empty name is an argument that is left out.
        return name and (scope.get(name) or self._weight(name))

    def _weight(self, name: str) -> str:
        if name not in self._weights:
            self._weights[name] = self._name("w")
            self.made.initializer.append(
                _plain_tensor(self._graph.weights[name], self._weights[name])
            )
        return self._weights[name]

    def _defined(self, name: str, scope: dict[str, str]) -> str:
        if not name:
            return ""
        scope[name] = self._name("v")
        return scope[name]

    def _name(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _renamed(value: onnx.ValueInfoProto, name: str) -> onnx.ValueInfoProto:
    made = onnx.ValueInfoProto(name=name)
    if value.HasField("type"):
        made.type.CopyFrom(value.type)
    return made


def _plain_tensor(tensor: onnx.TensorProto, name: str) -> onnx.TensorProto:
    """The same numbers as bytes: a file may hold them in several ways."""
    if tensor.data_type in _PLAIN:
        return numpy_helper.from_array(numpy_helper.to_array(tensor), name)
    made = onnx.TensorProto()
    made.CopyFrom(tensor)
    made.name = name
    for field in ("doc_string", "metadata_props"):
        made.ClearField(field)
    return made
