"""Small ONNX and Keras files over rows of varying length, and what runs them without kvspark."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tests.onnx_models import constant, floats, weight, write

WIDTH = 4
Nodes = list[NodeProto]
Built = tuple[Nodes, list[TensorProto], list[Any]]
"""Nodes that make `y` of `x`, weights, and the dimensions of `y` behind the batch."""


def _pooled(kind: str) -> Built:
    return [helper.make_node(kind, ["x", "one"], ["y"], keepdims=0)], [constant("one", [1])], [4]


def _taken(place: int) -> Built:
    scalar = numpy_helper.from_array(np.array(place, dtype=np.int64), "place")
    return [helper.make_node("Gather", ["x", "place"], ["y"], axis=1)], [scalar], [4]


def _conv(length: str, **options: Any) -> Built:
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[0, 2, 1]),
        helper.make_node("Conv", ["a", "w"], ["b"], kernel_shape=[3], **options),
        helper.make_node("Transpose", ["b"], ["y"], perm=[0, 2, 1]),
    ]
    return nodes, [weight("w", 5, 4, 3)], [length, 5]


def _global_average() -> Built:
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], perm=[0, 2, 1]),
        helper.make_node("GlobalAveragePool", ["a"], ["b"]),
        helper.make_node("Squeeze", ["b", "two"], ["y"]),
    ]
    return nodes, [constant("two", [2])], [4]


def _lstm() -> Built:
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], hidden_size=3, layout=0),
        helper.make_node("Squeeze", ["h", "zero"], ["y"]),
    ]
    nodes[0].input[0] = "t"
    nodes.insert(0, helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]))
    return nodes, [weight("w", 1, 12, 4), weight("r", 1, 12, 3), constant("zero", [0])], [3]


ONNX: dict[str, Callable[[], Built]] = {
    "mean": lambda: _pooled("ReduceMean"),
    "max": lambda: _pooled("ReduceMax"),
    "sum": lambda: _pooled("ReduceSum"),
    "last": lambda: _taken(-1),
    "first": lambda: _taken(0),
    "conv_same": lambda: _conv("length", pads=[1, 1]),
    "conv_causal": lambda: _conv("length", pads=[2, 0]),
    "conv_valid": lambda: _conv("shorter"),
    "conv_stride": lambda: _conv("half", pads=[1, 1], strides=[2]),
    "global_average": _global_average,
    "softmax_over_tokens": lambda: ([helper.make_node("Softmax", ["x"], ["y"], axis=1)], [], ["length", 4]),
    "per_token": lambda: (
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [weight("w", 4, 3)],
        ["length", 3],
    ),
    "cumsum": lambda: (
        [helper.make_node("CumSum", ["x", "axis"], ["y"])],
        [numpy_helper.from_array(np.array(1, dtype=np.int64), "axis")],
        ["length", 4],
    ),
    "lstm": _lstm,
}  # fmt: skip


def write_onnx(path: Path, kind: str) -> Path:
    nodes, weights, dims = ONNX[kind]()
    return write(
        path, nodes, [floats("x", "batch", "length", WIDTH)], [floats("y", "batch", *dims)], weights
    )


def onnx_runtime(path: Path) -> Callable[..., Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x})[0]


def _keras() -> Any:
    from kvspark.model.keras.source import keras_on_torch

    return keras_on_torch()


def _layers(k: Any) -> dict[str, Callable[[Any], Any]]:
    layer = k.layers
    return {
        "average": layer.GlobalAveragePooling1D(),
        "max": layer.GlobalMaxPooling1D(),
        "conv_same": layer.Conv1D(5, 3, padding="same"),
        "conv_causal": layer.Conv1D(5, 3, padding="causal"),
        "conv_valid_average": lambda x: layer.GlobalAveragePooling1D()(layer.Conv1D(5, 2)(x)),
        "conv_stride": layer.Conv1D(5, 3, strides=2, padding="same"),
        "dense": layer.Dense(3),
        "lstm": layer.LSTM(5),
        "gru_all": layer.GRU(5, return_sequences=True),
        "both": layer.Bidirectional(layer.LSTM(3)),
        "masked_lstm": lambda x: layer.LSTM(5)(layer.Masking(0.0)(x)),
        "attention": lambda x: layer.MultiHeadAttention(2, 4)(x, x),
    }


KERAS = tuple(
    "average max conv_same conv_causal conv_valid_average conv_stride dense lstm gru_all both masked_lstm "
    "attention".split()
)


def write_keras(path: Path, kind: str) -> Path:
    k = _keras()
    k.utils.set_random_seed(7)
    x = k.Input((None, WIDTH), name="x")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        k.Model(x, _layers(k)[kind](x)).save(str(path))
    return path


def keras_runtime(path: Path) -> Callable[..., Any]:
    k = sys.modules.get("keras") or _keras()
    model = k.models.load_model(str(path), compile=False)

    def run(x: Any) -> Any:
        import torch

        with torch.inference_mode(), warnings.catch_warnings(), k.device("cpu"):
            warnings.simplefilter("ignore")
            return k.ops.convert_to_numpy(model(x, training=False))

    return run
