"""ONNX files built node by node, with fixed weights: what an exporter writes, small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20


def weight(name: str, *shape: int, seed: int = 7) -> onnx.TensorProto:
    """float32 of `shape`, drawn from `seed` and the name."""
    generator = np.random.default_rng([seed, *name.encode()])
    return numpy_helper.from_array((generator.standard_normal(shape) * 0.3).astype("float32"), name)


def constant(name: str, values: list[int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)


def floats(name: str, *dims: Any) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(dims))


def write(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: list[onnx.TensorProto],
) -> Path:
    graph = helper.make_graph(nodes, "made", inputs, outputs, weights)
    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def cnn(path: Path, *, head_seed: int = 7, prefix: str = "") -> Path:
    """Picture (3, 16, 16) -> 5 scores and their label: convolutions, a skip, pooling, a Reshape by size.

    `prefix` names every value inside otherwise.
    """
    p = prefix
    nodes = [
        helper.make_node(
            "Conv", ["image", "c1", "b1"], [p + "conv1"], pads=[1] * 4, strides=[2, 2]
        ),
        helper.make_node("Relu", [p + "conv1"], [p + "relu1"]),
        helper.make_node("Conv", [p + "relu1", "c2"], [p + "conv2"], pads=[1] * 4),
        helper.make_node("Add", [p + "conv2", p + "relu1"], [p + "sum"]),
        helper.make_node("Relu", [p + "sum"], [p + "relu2"]),
        helper.make_node("GlobalAveragePool", [p + "relu2"], [p + "pool"]),
        helper.make_node("Shape", [p + "relu2"], [p + "shape"]),
        helper.make_node("Gather", [p + "shape", "zero"], [p + "rows"], axis=0),
        helper.make_node("Concat", [p + "rows", "rest"], [p + "flat_shape"], axis=0),
        helper.make_node("Reshape", [p + "pool", p + "flat_shape"], [p + "features"]),
        helper.make_node("Gemm", [p + "features", "w", "b"], ["scores"], transB=1),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    weights = [
        weight("c1", 8, 3, 3, 3),
        weight("b1", 8),
        weight("c2", 8, 8, 3, 3),
        constant("zero", [0]),
        constant("rest", [-1]),
        weight("w", 5, 8, seed=head_seed),
        weight("b", 5, seed=head_seed),
    ]
    label = helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"])
    return write(
        path,
        nodes,
        [floats("image", "batch", 3, 16, 16)],
        [floats("scores", "batch", 5), label],
        weights,
    )


def towers(path: Path) -> Path:
    """A user (8) and an item (6), each through a tower, that meet in a product."""
    nodes: list[onnx.NodeProto] = []
    weights = [constant("last", [1])]
    for side, width in (("user", 8), ("item", 6)):
        nodes += [
            helper.make_node("MatMul", [side, f"{side}_w"], [f"/{side}/product"]),
            helper.make_node("Add", [f"/{side}/product", f"{side}_b"], [f"/{side}/sum"]),
            helper.make_node("Relu", [f"/{side}/sum"], [f"/{side}/relu"]),
        ]
        weights += [weight(f"{side}_w", width, 16), weight(f"{side}_b", 16)]
    nodes += [
        helper.make_node("Mul", ["/user/relu", "/item/relu"], ["both"]),
        helper.make_node("ReduceSum", ["both", "last"], ["score"], keepdims=0),
    ]
    inputs = [floats("user", -1, 8), floats("item", -1, 6)]
    return write(path, nodes, inputs, [floats("score", None)], weights)


def tokens(path: Path) -> Path:
    """Token ids of varying length -> 4 scores a token."""
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "length"])
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"], axis=0),
        helper.make_node("MatMul", ["embedded", "w1"], ["hidden"]),
        helper.make_node("Tanh", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "w2"], ["scores"]),
    ]
    weights = [weight("table", 50, 16), weight("w1", 16, 16), weight("w2", 16, 4)]
    return write(path, nodes, [ids], [floats("scores", "batch", "length", 4)], weights)
