"""Keras files: trained by TensorFlow, run by torch, cut at layers, bit for bit the network that Keras runs."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from kvspark.errors import ExportError, ModelError
from kvspark.infer.model import Model
from kvspark.model.keras.source import load_keras

# Keras reads torch's tensors as numpy before 2 did, when it writes a file.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FOLDER = Path(__file__).parents[1] / "tensorflow"
DIGITS = FOLDER / "digits.keras"

MOST_APART = 1e-6
"""Between TensorFlow's probabilities and ours: 1.8e-7 measured, two units in the last place of 1."""


def held_out() -> tuple[Any, Any]:
    """The 64 pictures on which TensorFlow was asked, and what they are."""
    found = load_digits()
    pictures = (found.images / 16).astype("float32")[..., None]
    return pictures[1400:1464], found.target[1400:1464]


@pytest.fixture(scope="module")
def digits() -> Model:
    return Model.from_keras(DIGITS)


@pytest.fixture(scope="module")
def keras() -> Any:
    load_keras(DIGITS, variable_length=())
    return sys.modules["keras"]


def test_names_are_the_files_own_and_layers_are_places_to_cut(digits: Model) -> None:
    assert [(s.name, s.shape) for s in digits.inputs] == [("image", (8, 8, 1))]
    assert [(s.name, s.shape) for s in digits.outputs] == [("digit", (10,))]
    assert len(digits.stages) == 2
    at_trunk = Model.from_keras(DIGITS, cuts=["trunk"])
    assert [stage.name for stage in at_trunk.stages] == ["trunk", "digit"]
    whole = Model.from_keras(DIGITS, cuts=None)
    pictures, _ = held_out()
    made = {m.predict({"image": pictures})["digit"].tobytes() for m in (digits, at_trunk, whole)}
    assert len(made) == 1


def test_tensorflows_weights_give_tensorflows_predictions(digits: Model) -> None:
    pictures, labels = held_out()
    made = digits.predict({"image": pictures})["digit"]
    theirs = np.load(FOLDER / "digits.npy", allow_pickle=False)
    assert np.abs(made - theirs).max() < MOST_APART
    assert (made.argmax(axis=1) == labels).mean() > 0.9


def test_the_exported_network_gives_the_bits_of_keras_on_torch(digits: Model) -> None:
    pictures, _ = held_out()
    load_keras(DIGITS, variable_length=())  # Keras is on torch from here on.
    saving = importlib.import_module("keras").saving
    model = saving.load_model(str(DIGITS), compile=False, safe_mode=True)
    with torch.inference_mode():
        eager = [model(torch.from_numpy(part), training=False) for part in np.split(pictures, 2)]
    made = digits.predict({"image": pictures}, threads=torch.get_num_threads())["digit"]
    assert made.tobytes() == torch.cat(eager).numpy().tobytes()


PROGRAM = """
import os, sys
import kvspark
print(kvspark.Model.from_keras(sys.argv[1]).fingerprint.hex())
print(os.environ["KERAS_BACKEND"], "tensorflow" in sys.modules)
"""


def test_every_process_finds_the_same_fingerprint_and_keeps_its_environment(digits: Model) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(DIGITS)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONHASHSEED": "3"},
    )
    assert printed.stdout.split() == [digits.fingerprint.hex(), "tensorflow", "False"]


def test_a_head_that_was_trained_anew_keeps_its_trunk(keras: Any, tmp_path: Path) -> None:
    model = keras.saving.load_model(DIGITS, compile=False)
    before = Model.from_keras(DIGITS, cuts=["trunk"])
    kernel, bias = model.get_layer("digit").get_weights()
    model.get_layer("digit").set_weights([np.nextafter(kernel, 1.0), bias])
    model.save(tmp_path / "digits.keras")
    after = Model.from_keras(tmp_path / "digits.keras", cuts=["trunk"])
    assert after.stages[0].fingerprint == before.stages[0].fingerprint
    assert after.fingerprint != before.fingerprint


def test_towers_are_found_and_a_dict_keeps_its_names(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    user = keras.Input((6,), name="user")
    items = keras.Input((5,), dtype="int32", name="items")
    left = layers.Dense(8, activation="silu")(user)
    right = layers.LSTM(8)(layers.Embedding(10, 4)(items))
    score = layers.Dot(1)([left, right])
    keras.Model({"user": user, "items": items}, {"score": score}).save(tmp_path / "m.keras")
    model = Model.from_keras(tmp_path / "m.keras")
    assert [spec.name for spec in model.inputs] == ["user", "items"]
    assert [spec.name for spec in model.outputs] == ["score"]
    assert [stage.inputs for stage in model.stages] == [("user",), ("items",), ("user", "items")]


def test_a_mask_keeps_padding_out(keras: Any, tmp_path: Path) -> None:
    ids = keras.Input((None,), dtype="int32", name="ids")
    embedded = keras.layers.Embedding(20, 8, mask_zero=True)(ids)
    pooled = keras.layers.GlobalAveragePooling1D()(embedded)
    network = keras.Model(ids, keras.layers.Dense(2, name="out")(pooled))
    network.save(tmp_path / "m.keras")
    with pytest.raises(ExportError, match=r"input 'ids' has shape .* expected a free batch"):
        Model.from_keras(tmp_path / "m.keras", variable_length=[])
    model = Model.from_keras(tmp_path / "m.keras")
    assert not model.bundle.length_rule.is_exact
    rows = [[1, 2, 3], [4, 5, 6, 7, 8]]
    made = model.predict({"ids": rows})["out"]
    with torch.inference_mode():
        alone = [network(torch.tensor([row], dtype=torch.int32)) for row in rows]
    assert np.abs(made - torch.cat(alone).numpy()).max() < MOST_APART


def test_a_lambda_is_refused_by_its_name(keras: Any, tmp_path: Path) -> None:
    layers = keras.layers
    odd = layers.Lambda(lambda x: x + 1, name="odd")
    keras.Sequential([keras.Input((4,)), layers.Dense(3), odd]).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="layer 'odd' is a Lambda, whose Python code is never run"):
        Model.from_keras(tmp_path / "m.keras")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no file"):
        Model.from_keras(tmp_path / "none.keras")
    (tmp_path / "old.h5").write_bytes(b"\x89HDF\r\n")
    with pytest.raises(ModelError, match=r"save it again as a \.keras file"):
        Model.from_keras(tmp_path / "old.h5")
    with zipfile.ZipFile(tmp_path / "odd.keras", "w") as archive:
        archive.writestr("config.json", '{"module": "mine", "class_name": "Mine", "config": {}}')
    with pytest.raises(ModelError, match="Keras cannot load it"):
        Model.from_keras(tmp_path / "odd.keras")


def test_a_process_with_another_backend_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    # The other backends are packages of their own, of which none is here.
    other = SimpleNamespace(backend=SimpleNamespace(backend=lambda: "tensorflow"))
    monkeypatch.setitem(sys.modules, "keras", other)
    with pytest.raises(ModelError, match=r"keras runs on tensorflow in this process.*before keras"):
        Model.from_keras(DIGITS)


def test_a_layer_that_changes_with_every_call_is_named(keras: Any, tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("kvspark-tests")
    class Counted(keras.layers.Layer):  # type: ignore[misc]
        def build(self, shape: Any) -> None:
            del shape
            self.calls = self.add_weight(
                shape=(), initializer="zeros", trainable=False, name="calls"
            )

        def call(self, given: Any) -> Any:
            self.calls.assign_add(1.0)
            return given * self.calls

    inputs = keras.Input((4,), name="x")
    keras.Model(inputs, Counted(name="counted")(inputs)).save(tmp_path / "m.keras")
    with pytest.raises(ModelError, match="'counted/calls' is changed by every call"):
        Model.from_keras(tmp_path / "m.keras")


def test_a_refusal_names_the_file_and_not_a_class_of_ours(keras: Any, tmp_path: Path) -> None:
    @keras.saving.register_keras_serializable("kvspark-tests")
    class Branched(keras.layers.Layer):  # type: ignore[misc]
        def call(self, given: Any) -> Any:
            return given * 2 if bool(given.sum() > 0) else given

    @keras.saving.register_keras_serializable("kvspark-tests")
    class Wide(keras.layers.Layer):  # type: ignore[misc]
        def call(self, given: Any) -> Any:
            if given.shape[0] == 2:  # the rows of the examples, and none of Keras's own
                raise RuntimeError("no such rows")
            return given

    for layer, said in (
        (Branched(name="branched"), r"^torch\.export cannot capture m\.keras at .*branched"),
        (Wide(name="wide"), r"^m\.keras fails on the example inputs at .*wide"),
    ):
        inputs = keras.Input((4,), name="x")
        keras.Model(inputs, layer(inputs)).save(tmp_path / "m.keras")
        with pytest.raises(ExportError, match=said) as caught:
            Model.from_keras(tmp_path / "m.keras")
        assert "KerasNetwork" not in str(caught.value)


def test_what_a_layer_adds_to_the_loss_is_left_out(keras: Any, tmp_path: Path) -> None:
    """It counts rows in Python, which torch.export would write into the graph."""
    network = keras.Sequential(
        [
            keras.Input((4,), name="x"),
            keras.layers.Dense(3, activity_regularizer="l2"),
            keras.layers.ActivityRegularization(0.1),
        ]
    )
    network.save(tmp_path / "m.keras")
    rows = np.random.default_rng(1).standard_normal((9, 4)).astype("float32")
    assert Model.from_keras(tmp_path / "m.keras").verify({"x": rows}).ok
