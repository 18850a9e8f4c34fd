"""A bundle that was saved before rows were tried is tried when it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvspark.errors import ModelError
from kvspark.fingerprint import file_sha256
from kvspark.infer.model import Model
from tests import callables
from tests.model.trials.test_company import ALONE, MIXING, Share, X, Y, onnx_file, rows, scripted


def without_trial(folder: Path) -> Path:
    """The bundle in `folder` as it was saved before rows were tried."""
    value = json.loads((folder / "manifest.json").read_text())
    assert value.pop("single_rows") is not None
    value["micro_batch"]["rows"] = 32
    (folder / "manifest.json").write_text(json.dumps(value))
    return folder


@pytest.mark.parametrize("source", ["onnx", "callable", "torchscript"])
def test_a_bundle_from_before_gets_calls_of_one_row_where_its_rows_change_each_other(
    source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if source == "onnx":
        path = onnx_file(tmp_path / "m.onnx", MIXING["a softmax over the rows"]())
        model = Model.from_onnx(path, micro_batch=ALONE)
    elif source == "callable":
        model = Model.from_callable(
            callables.placed, fingerprint="1", inputs=[X], outputs=[Y], micro_batch=ALONE
        )
    else:
        path = scripted(tmp_path / "m.pt", Share().eval())
        model = Model.from_torchscript(path, inputs=[X], outputs=[Y], micro_batch=ALONE)
    model.save(tmp_path / "saved")
    loaded = Model.load(without_trial(tmp_path / "saved"))
    assert "rows are computed one a call for good" in caplog.text
    assert loaded.fingerprint == model.fingerprint
    assert (
        loaded.predict({"x": rows()})["y"].tobytes() == model.predict({"x": rows()})["y"].tobytes()
    )
    loaded.save(tmp_path / "again")
    assert Model.load(tmp_path / "again").bundle.has_single_rows


def test_a_bundle_from_before_whose_rows_are_their_own_stays_what_it_is(tmp_path: Path) -> None:
    model = Model.from_callable(callables.doubled, fingerprint="1", inputs=[X], outputs=[Y])
    model.save(tmp_path / "saved")
    loaded = Model.load(without_trial(tmp_path / "saved"))
    assert loaded.fingerprint == model.fingerprint
    assert loaded.bundle.knows_its_rows


def test_a_bundle_from_before_that_remembers_is_refused(tmp_path: Path) -> None:
    model = Model.from_callable(callables.doubled, fingerprint="1", inputs=[X], outputs=[Y])
    model.save(tmp_path / "saved")
    without_trial(tmp_path / "saved")
    for name, error in (("counted", "in the next call"), ("nowhere", "cannot be imported here")):
        change_function(tmp_path / "saved", name)
        with pytest.raises(ModelError, match=error):
            Model.load(tmp_path / "saved")


def change_function(folder: Path, name: str) -> None:
    """Lets the saved bundle call another function of `callables`, and its manifest agree."""
    (path,) = folder.rglob("callable.json")
    before = file_sha256(path)
    path.write_text(json.dumps({"function": f"tests.callables:{name}"}))
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace(before, file_sha256(path)))
