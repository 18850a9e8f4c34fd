"""A row's result hangs on the row: not on its companions, its place, their number, or the calls before."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from kvspark.cache.cache import Cache
from kvspark.errors import ExportError, ModelError, NotRepeatableError, UsageError
from kvspark.infer.model import Model
from kvspark.spec import MicroBatch, TensorSpec
from tests import callables
from tests.onnx_models import constant, floats, weight, write

X, Y = TensorSpec("x", "float32", (4,)), TensorSpec("y", "float32", (4,))
ALONE = MicroBatch(rows=1)


def rows(count: int = 40) -> Any:
    return np.random.default_rng(5).standard_normal((count, 4)).astype("float32")


class Applied(torch.nn.Module):
    """One expression."""

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Counted(torch.nn.Module):
    """Multiplies by the number of its calls, which Python counts."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x * self.calls


class FirstBatch(torch.nn.Module):
    """Takes off the mean of the first rows that it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.mean is None:
            self.mean = x.mean().detach()
        return x - self.mean


def placed(x: torch.Tensor) -> torch.Tensor:
    return x + torch.arange(x.shape[0]).unsqueeze(1)


def shared(x: torch.Tensor) -> torch.Tensor:
    return x / x.shape[0]


def centred(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean(dim=0)


def of_torch(function: Callable[[torch.Tensor], torch.Tensor], **options: Any) -> Model:
    options = {"example_inputs": {"x": torch.zeros(2, 4)}, **options}
    return Model.from_torch(Applied(function).eval(), **options)


@pytest.mark.parametrize("function", [placed, shared])
def test_a_module_that_reads_a_rows_place_or_their_number_is_refused(function: Any) -> None:
    with pytest.raises(
        NotRepeatableError, match=r"'output' of a row changes .*MicroBatch\(rows=1\)"
    ):
        of_torch(function)


def test_a_module_that_remembers_in_python_is_refused() -> None:
    for shape in (MicroBatch(), ALONE):
        with pytest.raises(NotRepeatableError, match="other bits in 'output' in the next call"):
            Model.from_torch(Counted().eval(), {"x": torch.zeros(2, 4)}, micro_batch=shape)


def test_a_module_whose_first_call_decides_is_the_module_as_it_is_now() -> None:
    module = FirstBatch().eval()
    with torch.no_grad():
        module(torch.full((2, 4), 3.0))
    model = Model.from_torch(module, {"x": torch.zeros(2, 4)})
    assert model.verify({"x": rows()}).verdict == "equal bits"


@pytest.mark.parametrize("function", [placed, shared, centred])
def test_computed_one_by_one_each_row_is_the_modules_own(function: Any, tmp_path: Path) -> None:
    model = of_torch(function, micro_batch=ALONE)
    expected = np.concatenate([function(torch.from_numpy(row[None])).numpy() for row in rows()])
    cache = Cache.connect("memory://", namespace="alone")
    for given in (rows(), rows()[::-1], rows()[:1], rows()):
        order = slice(None, None, -1) if given.strides[0] < 0 else slice(len(given))
        made = model.predict({"x": given}, cache=cache)["output"]
        assert made.tobytes() == expected[order].tobytes()
    assert model.verify({"x": rows()}).verdict == "equal bits"
    model.save(tmp_path / "saved")
    for one in (model, Model.load(tmp_path / "saved")):
        with pytest.raises(UsageError, match=r"made for MicroBatch\(rows=1\)"):
            one.with_micro_batch(MicroBatch(rows=32))


def test_a_module_that_squeezes_its_results_is_taken() -> None:
    torch.manual_seed(1)
    linear = torch.nn.Linear(4, 1)
    module = Applied(lambda x: linear(x).squeeze().sigmoid()).eval()
    model = Model.from_torch(module, {"x": torch.zeros(2, 4)})
    by_module = model.verify({"x": rows()}, runtime=module)
    by_stages = Model(model.bundle).verify({"x": rows()})
    for found in (by_module, by_stages):
        assert found.verdict in ("equal bits", "within bound")


def test_squeezing_functions_and_files_are_verified_too(tmp_path: Path) -> None:
    number = TensorSpec("y", "float32")
    module = Applied(lambda x: x.sum(dim=1, keepdim=True).squeeze()).eval()
    path = scripted(tmp_path / "m.pt", module, traced=True)
    for model in (
        Model.from_callable(callables.squeezed, fingerprint="1", inputs=[X], outputs=[number]),
        Model.from_torchscript(path, inputs=[X], outputs=[number]),
    ):
        assert model.verify({"x": rows()}).verdict == "equal bits"


@pytest.mark.parametrize(
    "fn",
    [callables.centred, callables.placed, callables.shared, callables.positive_share],
)
def test_a_function_that_reads_other_rows_is_refused_or_called_row_by_row(fn: Any) -> None:
    with pytest.raises(NotRepeatableError, match="'y' of a row changes"):
        Model.from_callable(fn, fingerprint="1", inputs=[X], outputs=[Y])
    model = Model.from_callable(fn, fingerprint="1", inputs=[X], outputs=[Y], micro_batch=ALONE)
    given = np.abs(rows())
    expected = np.concatenate([fn(row[None]) for row in given])
    assert model.predict({"x": given})["y"].tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "fn", [callables.counted, callables.remembered, callables.drawn, callables.timed]
)
@pytest.mark.parametrize("shape", [MicroBatch(), ALONE])
def test_a_function_that_draws_or_remembers_is_refused(fn: Any, shape: MicroBatch) -> None:
    with pytest.raises(
        NotRepeatableError, match=r"in the next call, so no result can be used again"
    ):
        Model.from_callable(fn, fingerprint="1", inputs=[X], outputs=[Y], micro_batch=shape)


def test_a_function_that_takes_none_of_the_rows_tried_is_taken() -> None:
    model = Model.from_callable(callables.strict, fingerprint="1", inputs=[X], outputs=[Y])
    assert model.predict({"x": abs(rows())})["y"].tobytes() == (2 * abs(rows())).tobytes()


def quantised_at_run_time() -> list[Any]:
    return [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]


def looped_while_small() -> list[Any]:
    body = helper.make_graph(
        [
            helper.make_node("Mul", ["a", "two"], ["b"]),
            helper.make_node("ReduceMax", ["b"], ["most"], keepdims=0),
            helper.make_node("Less", ["most", "hundred"], ["go"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("went", TensorProto.BOOL, []),
            floats("a", "n", 4),
        ],
        [helper.make_tensor_value_info("go", TensorProto.BOOL, []), floats("b", "n", 4)],
    )
    return [helper.make_node("Loop", ["trips", "yes", "x"], ["y"], body=body)]


MIXING: dict[str, Callable[[], list[Any]]] = {
    "a mean over the rows": lambda: [
        helper.make_node("ReduceMean", ["x", "first"], ["m"]),
        helper.make_node("Sub", ["x", "m"], ["y"]),
    ],
    "a softmax over the rows": lambda: [helper.make_node("Softmax", ["x"], ["y"], axis=0)],
    "a running sum": lambda: [helper.make_node("CumSum", ["x", "zeroth"], ["y"])],
    "the number of rows": lambda: [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zeroth"], ["n"], axis=0),
        helper.make_node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["x", "f"], ["y"]),
    ],
    "the place of a row": lambda: [
        helper.make_node("Gather", ["x", "zeroth"], ["f"], axis=0),
        helper.make_node("Sub", ["x", "f"], ["y"]),
    ],
    "a scale for the whole batch": quantised_at_run_time,
    "a loop until all rows are large": looped_while_small,
}


def onnx_file(path: Path, nodes: list[Any], output: Any = None) -> Path:
    used = {name for node in nodes for name in node.input}
    used |= {name for node in nodes for a in node.attribute for n in a.g.node for name in n.input}
    weights = [
        constant("first", [0]),
        numpy_helper.from_array(np.array(0), "zeroth"),
        numpy_helper.from_array(np.array(20), "trips"),
        numpy_helper.from_array(np.array(True), "yes"),
        numpy_helper.from_array(np.float32(2), "two"),
        numpy_helper.from_array(np.float32(100), "hundred"),
        weight("w", 4, 3),
    ]
    used_weights = [one for one in weights if one.name in used]
    return write(path, nodes, [floats("x", "n", 4)], [output or floats("y", "n", 4)], used_weights)


@pytest.mark.parametrize("kind", MIXING)
def test_an_onnx_file_that_mixes_rows_is_refused_or_run_row_by_row(
    kind: str, tmp_path: Path
) -> None:
    path = onnx_file(tmp_path / "m.onnx", MIXING[kind]())
    with pytest.raises(
        NotRepeatableError, match=r"'y' of a row changes .*model\.micro_batch\.rows: 1"
    ):
        Model.from_onnx(path)
    if kind == "a scale for the whole batch":
        with pytest.raises(NotRepeatableError, match="takes one scale for all rows of a call"):
            Model.from_onnx(path)
    model = Model.from_onnx(path, micro_batch=ALONE)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = np.concatenate([session.run(None, {"x": row[None]})[0] for row in rows()])
    assert model.predict({"x": rows()})["y"].tobytes() == expected.tobytes()


def test_an_onnx_file_that_draws_is_refused_however_it_is_called(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Dropout", ["x", "two_thirds", "yes"], ["y"], seed=3),
    ]
    weights = [
        numpy_helper.from_array(np.float32(0.6), "two_thirds"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    path = write(tmp_path / "m.onnx", nodes, [floats("x", "n", 4)], [floats("y", "n", 4)], weights)
    for shape in (MicroBatch(), ALONE):
        with pytest.raises((ExportError, NotRepeatableError), match=r"draws|in the next call"):
            Model.from_onnx(path, micro_batch=shape)


def scripted(path: Path, module: torch.nn.Module, *, traced: bool = False) -> Path:
    jit: Any = torch.jit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = jit.trace(module, torch.zeros(2, 4)) if traced else jit.script(module)
        made.save(str(path))
    return path


class Share(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / x.size(0)


class TwoRows(torch.nn.Module):
    """Traced with two rows, its loop has two rounds for ever."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = torch.zeros_like(x)
        for row in range(x.shape[0]):
            made[row] = x[row] * 2
        return made


@pytest.mark.parametrize(
    ("module", "traced"), [(Share(), False), (Share(), True), (TwoRows(), True)]
)
def test_a_torchscript_file_that_counts_rows_is_refused(
    module: torch.nn.Module, traced: bool, tmp_path: Path
) -> None:
    path = scripted(tmp_path / "m.pt", module.eval(), traced=traced)
    with pytest.raises(NotRepeatableError, match="'y' of a row changes"):
        Model.from_torchscript(path, inputs=[X], outputs=[Y])


def test_what_a_function_gives_is_read_alike_by_kvspark_and_by_verify() -> None:
    for fn in (callables.listed, callables.big_endian, callables.reused):
        model = Model.from_callable(fn, fingerprint="1", inputs=[X], outputs=[Y])
        assert model.verify({"x": rows()}).verdict == "equal bits"
    expected = (rows() * np.float32(2)).tobytes()
    model = Model.from_callable(callables.big_endian, fingerprint="1", inputs=[X], outputs=[Y])
    assert model.predict({"x": rows()})["y"].tobytes() == expected


def test_masked_values_and_the_end_of_a_process_are_told() -> None:
    for fn, words in (
        (callables.masked, "masked values"),
        (callables.leaving, "ended its process"),
    ):
        model = Model.from_callable(fn, fingerprint="1", inputs=[X], outputs=[Y])
        with pytest.raises(ModelError, match=words):
            model.predict({"x": rows()})


def test_an_onnx_file_that_takes_rows_for_time_is_refused(tmp_path: Path) -> None:
    """At length 0, which is tried later, onnxruntime would end the process."""
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["o"], hidden_size=4),
        helper.make_node("Squeeze", ["o", "one"], ["y"]),
    ]
    weights = [weight("w", 1, 16, 3), weight("r", 1, 16, 4), constant("one", [1])]
    inputs, outputs = [floats("x", "n", "length", 3)], [floats("y", "n", "length", 4)]
    path = write(tmp_path / "m.onnx", nodes, inputs, outputs, weights)
    with pytest.raises(NotRepeatableError, match="'y' of a row changes"):
        Model.from_onnx(path)
