"""Functions as models: imported by name, fingerprinted by their owner, run in fixed micro-batches."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from kvspark.cache.cache import Cache
from kvspark.errors import ModelError, NotRepeatableError, OutputMismatchError, UsageError
from kvspark.infer.checks.preflight import preflight
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.model.bundle.bundle import Bundle
from kvspark.spec import STRING, MicroBatch, TensorSpec
from tests import callables
from tests.faults.matrix import covers

X, Y = TensorSpec("x", "float32", (4,)), TensorSpec("y", "float32", (4,))
LOW, TOTAL = TensorSpec("low", "float32", (4,)), TensorSpec("total", "float32")
SHAPE = MicroBatch(rows=32, tokens=512)


def rows(count: int = 30, seed: int = 3) -> Any:
    return np.random.default_rng(seed).standard_normal((count, 4)).astype("float32")


def doubled(**options: Any) -> Model:
    return Model.from_callable(
        callables.doubled,
        **{
            "fingerprint": "v1",
            "inputs": [X],
            "outputs": [TensorSpec("y", "float32", (4,))],
            **options,
        },
    )


def test_a_function_is_one_stage() -> None:
    model = doubled(micro_batch=SHAPE)
    (stage,) = model.stages
    assert (stage.kind, stage.inputs, stage.is_batched) == ("callable", ("x",), True)
    made = model.predict({"x": rows()})
    assert made["y"].tobytes() == (rows() * np.float32(2)).tobytes()


@pytest.mark.parametrize("fn", [callables.described, callables.paired])
def test_results_by_name_and_by_place_are_the_same(fn: Any) -> None:
    model = Model.from_callable(fn, fingerprint=b"1", inputs=[X, Y], outputs=[LOW, TOTAL])
    made = model.predict({"x": rows(), "y": rows(seed=4)})
    assert made["low"].tobytes() == np.minimum(rows(), rows(seed=4)).tobytes()
    assert made["total"].shape == (30,)


def test_a_varying_dimension_is_padded_and_trimmed() -> None:
    model = Model.from_callable(
        callables.per_token,
        fingerprint="1",
        inputs=[TensorSpec("x", "int64", (None,))],
        outputs=[TensorSpec("y", "float32", (None,))],
        micro_batch=SHAPE,
    )
    made = model.predict({"x": [np.arange(1 + i * 5 % 17) for i in range(20)]})
    assert [len(row) for row in made["y"]] == [1 + i * 5 % 17 for i in range(20)]


@pytest.mark.parametrize("fn", [callables.unlike_zero, callables.unlike_zero_as_objects])
def test_rows_of_several_lengths_are_refused_by_that_name_and_one_row_a_call_is_right(
    fn: Any,
) -> None:
    x, y = TensorSpec("x", "int64", (None,)), TensorSpec("y", "float32", (None,))
    given = [np.array([3, 0, 5]), np.array([0, 0, 7]), np.array([1, 2, 3, 0, 0, 4])]
    model = Model.from_callable(fn, fingerprint="1", inputs=[x], outputs=[y])
    said = r"rows of several lengths for 'y' in one call.*micro_batch=MicroBatch\(rows=1\)"
    for on_bad_row in ("error", "null"):  # it is no fault of a row
        with pytest.raises(OutputMismatchError, match=said):
            model.predict({"x": given}, on_bad_row=on_bad_row)
    alone = Model.from_callable(
        fn, fingerprint="1", inputs=[x], outputs=[y], micro_batch=MicroBatch(rows=1)
    )
    made = alone.predict({"x": given})["y"]
    assert [row.tolist() for row in made] == [[9, 25], [49], [1, 4, 9, 16]]


def test_the_second_run_computes_nothing() -> None:
    cache = Cache.connect("memory://callable", namespace="tests")
    arrays = {"x": pa.array(rows().tolist(), pa.list_(pa.float32()))}
    computed = []
    for _ in range(2):
        predictor = Predictor(compiled_plan(doubled().bundle), cache=cache)
        predictor.predict(arrays)
        computed.append(predictor.drain().stages["output"].computed)
    assert computed == [30, 0]


def test_a_result_in_a_shared_buffer_is_copied() -> None:
    model = Model.from_callable(
        callables.reused, fingerprint="1", inputs=[X], outputs=[LOW], micro_batch=SHAPE
    )
    assert model.predict({"x": rows()})["low"].tobytes() == (rows() * np.float32(3)).tobytes()


def test_the_fingerprint_is_the_owners_and_the_tensors() -> None:
    prints = {
        model.fingerprint
        for model in (
            doubled(),
            doubled(fingerprint="v2"),
            doubled(fingerprint=b"v1"),
            doubled(outputs=[TensorSpec("z", "float32", (4,))]),
            doubled(micro_batch=MicroBatch(rows=64)),
        )
    }
    assert len(prints) == 5
    assert doubled(name="other").fingerprint == doubled().fingerprint


@pytest.mark.parametrize("empty", ["", b"", None, 1], ids=["text", "bytes", "none", "number"])
def test_an_empty_fingerprint_is_refused(empty: Any) -> None:
    with pytest.raises(UsageError, match=r"fingerprint of tests\.callables:doubled must be text"):
        doubled(fingerprint=empty)


@covers("B18")
def test_what_cannot_be_imported_by_name_is_refused() -> None:
    def inner(x: Any) -> Any:
        return x

    bound = Cache.connect("memory://bound", namespace="tests").check
    for fn in (inner, lambda x: x, functools.partial(callables.doubled), bound):
        with pytest.raises(UsageError, match="no code travels in a bundle"):
            Model.from_callable(fn, fingerprint="1", inputs=[X], outputs=[Y])


def test_a_function_of_the_running_program_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callables.doubled, "__module__", "__main__")
    with pytest.raises(
        UsageError, match="__main__:doubled is no function that a worker can import"
    ):
        doubled()


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ([TensorSpec("t", STRING)], [Y], "'t' has dtype 'string'"),
        ([X], [TensorSpec("y", "bfloat16")], "'y' has dtype 'bfloat16'"),
        ([X, X], [Y], "different names"),
        ([], [Y], "different names"),
        ([X], [TensorSpec("y", "float32", (None,))], "only where one of an input does"),
        ([TensorSpec("x", "int8", (None, None))], [Y], "only the first dimension of 'x'"),
    ],
)
def test_a_tensor_that_no_function_takes_is_refused(
    inputs: list[TensorSpec], outputs: list[TensorSpec], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Model.from_callable(callables.doubled, fingerprint="1", inputs=inputs, outputs=outputs)


@covers("B21")
def test_a_function_that_mixes_only_these_rows_fails_the_preflight() -> None:
    model = Model.from_callable(callables.mixing_small, fingerprint="1", inputs=[X], outputs=[Y])
    small = np.float32(1e-9) * rows()
    with pytest.raises(NotRepeatableError, match="stage 'output' gave other bits"):
        preflight(
            compiled_plan(model.bundle), {"x": pa.array(small.tolist(), pa.list_(pa.float32()))}
        )


@covers("B20")
@pytest.mark.parametrize(
    ("fn", "outputs", "message"),
    [
        (callables.halved, [Y], r"gave 16 rows for 32"),
        (callables.doubled, [TensorSpec("y", "float64", (4,))], "gave float32"),
        (callables.doubled, [LOW, TOTAL], "gave 1 results, expected 2"),
        (callables.described, [LOW, Y], "gave low, total, expected low, y"),
    ],
)
def test_a_result_that_was_not_promised_is_refused(
    fn: Any, outputs: list[TensorSpec], message: str
) -> None:
    inputs = [X, Y] if fn is callables.described else [X]
    model = Model.from_callable(fn, fingerprint="1", inputs=inputs, outputs=outputs)
    with pytest.raises(OutputMismatchError, match=message):
        model.predict({spec.name: rows() for spec in inputs})


def named(tmp_path: Path, reference: str) -> Bundle:
    """A saved bundle whose function has been named otherwise, and whose manifest agrees."""
    doubled().save(tmp_path / "saved")
    file = tmp_path / "saved/stages/output/callable.json"
    old = doubled().bundle.files["stages/output/callable.json"]["sha256"]
    file.write_text(json.dumps({"function": reference}))
    import hashlib

    manifest = (tmp_path / "saved/manifest.json").read_text()
    new = hashlib.sha256(file.read_bytes()).hexdigest()
    (tmp_path / "saved/manifest.json").write_text(manifest.replace(old, new))
    return Bundle.load(tmp_path / "saved")


def test_a_function_that_is_not_installed_here_is_told_with_what_to_do(tmp_path: Path) -> None:
    bundle = named(tmp_path, "nowhere.at_all:fn")
    with pytest.raises(
        ModelError, match=r"nowhere\.at_all:fn, which cannot be imported here .*pyFiles"
    ):
        bundle.computation(bundle.stages[0], threads=1)


@pytest.mark.parametrize("reference", ["os", "os:", "os;x:y", "../x:y", ":x"])
def test_a_name_that_is_no_function_is_refused(tmp_path: Path, reference: str) -> None:
    bundle = named(tmp_path, reference)
    with pytest.raises(ModelError, match="names no function"):
        bundle.computation(bundle.stages[0], threads=1)
