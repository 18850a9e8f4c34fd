"""One model of each source, with rows of varying length and one that is bad.

None of them masks its padding, so that what every way in must do about it can be seen: the promise of
`Model.verify`, equal to the model's own runtime row by row, holds only where it is done.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from kvspark.infer.model import Model
from kvspark.spec import TensorSpec
from tests import onnx_models
from tests.callables import plain_mean
from tests.pretrained_models import save_text_classifier
from tests.small_models import seeded


@final
@dataclass(frozen=True)
class Source:
    """A way to make a model."""

    make: Callable[[Path], Model]
    """Makes it in a folder of its own."""
    rows: tuple[Any, ...]
    """Values of its one input: several lengths, no bucket among them but by chance, and the least."""
    type: str
    """Spark's type of them."""


IDS: tuple[list[int], ...] = (
    [3],
    [4, 5],
    [7, 8, 9],
    [],
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
    [7, 8, 9],
    [11] * 21,
)
NUMBERS = tuple([float(i) for i in row] for row in IDS)
TEXTS = (
    "oak",
    "",
    "an oak is a tree",
    "OAK",
    "oak",
    "a tall tree that is not an oak, says Oak " * 9,
)


class Mean(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(50, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.embed(x).mean(1)


_MODULES: list[torch.nn.Module] = []
"""A model keeps no module alive, and `verify` wants it."""


def _kept(module: torch.nn.Module) -> torch.nn.Module:
    _MODULES.append(seeded(module).eval())
    return _MODULES[-1]


def _torch(folder: Path) -> Model:
    del folder
    examples = {"x": torch.ones(2, 8, dtype=torch.int64)}
    return Model.from_torch(_kept(Mean()), examples, variable_length=["x"], name="g-torch")


def _recurrent(folder: Path) -> Model:
    del folder

    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = torch.nn.Embedding(50, 4)
            self.lstm = torch.nn.LSTM(4, 3, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made: torch.Tensor = self.lstm(self.embed(x))[0][:, -1]
            return made

    examples = {"x": torch.ones(2, 8, dtype=torch.int64)}
    return Model.from_torch(_kept(Last()), examples, variable_length=["x"], name="g-lstm")


def _pretrained(folder: Path) -> Model:
    path = save_text_classifier(folder / "fnet", "FNet")  # it has no mask
    return Model.from_pretrained(path, name="g-pretrained")


def _onnx(folder: Path) -> Model:
    ids = helper.make_tensor_value_info("x", TensorProto.INT64, ["batch", "length"])
    nodes: list[onnx.NodeProto] = [
        helper.make_node("Gather", ["table", "x"], ["embedded"], axis=0),
        helper.make_node("ReduceMax", ["embedded", "axes"], ["output"], keepdims=0),
    ]
    weights = [onnx_models.weight("table", 50, 4), onnx_models.constant("axes", [1])]
    path = onnx_models.write(
        folder / "m.onnx", nodes, [ids], [onnx_models.floats("output", "batch", 4)], weights
    )
    return Model.from_onnx(path, name="g-onnx")


def _keras(folder: Path) -> Model:
    from kvspark.model.keras.source import keras_on_torch

    keras = keras_on_torch()
    keras.utils.set_random_seed(7)
    x = keras.Input((None,), dtype="int64", name="x")
    pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(50, 4)(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Keras' own use of numpy
        keras.Model(x, keras.layers.Dense(2, name="output")(pooled)).save(folder / "m.keras")
    return Model.from_keras(folder / "m.keras", name="g-keras")


def _torchscript(folder: Path) -> Model:
    jit: Any = torch.jit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        script = jit.trace(seeded(Mean()).eval(), torch.ones(2, 8, dtype=torch.int64))
        script.save(str(folder / "m.pt"))
    return Model.from_torchscript(
        folder / "m.pt",
        inputs=[TensorSpec("x", "int64", (None,))],
        outputs=[TensorSpec("output", "float32", (4,))],
        name="g-torchscript",
    )


def _callable(folder: Path) -> Model:
    del folder
    return Model.from_callable(
        plain_mean,
        fingerprint="1",
        inputs=[TensorSpec("x", "float32", (None,))],
        outputs=[TensorSpec("output", "float32", ())],
        name="g-callable",
    )


SOURCES = {
    "torch": Source(_torch, IDS, "array<bigint>"),
    "torch, recurrent": Source(_recurrent, IDS, "array<bigint>"),
    "pretrained": Source(_pretrained, TEXTS, "string"),
    "onnx": Source(_onnx, IDS, "array<bigint>"),
    "keras": Source(_keras, IDS, "array<bigint>"),
    "torchscript": Source(_torchscript, IDS, "array<bigint>"),
    "callable": Source(_callable, NUMBERS, "array<float>"),
}

OUTPUT = {"pretrained": "logits"}
"""The output that is compared, where it is not called `output`."""


def output_of(name: str) -> str:
    """The output of source `name` that is compared."""
    return OUTPUT.get(name, "output")


def bits(value: Any) -> bytes | None:
    """The bytes of a result as float32; None for a row without one.

    A nan is a nan: Spark's writer of Parquet keeps one of its many bit patterns.
    """
    if value is None or np.ma.is_masked(value):
        return None
    made = np.asarray(value, dtype="float32")
    return np.where(np.isnan(made), np.float32("nan"), made).tobytes()
