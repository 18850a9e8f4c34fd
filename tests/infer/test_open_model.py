"""One text names a model of any kind; on every way it has one fingerprint, and every refusal is one line."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import kvspark
from kvspark.errors import KvsparkError, ModelError, UsageError
from kvspark.infer.model import Model
from kvspark.infer.open_model import open_model
from kvspark.model.keras.source import load_keras
from kvspark.spec import MicroBatch
from tests.file_registry import file_registry
from tests.onnx_models import cnn
from tests.pretrained_models import save_text_classifier
from tests.small_models import Mlp, seeded

pytestmark = [
    # MLflow's file store warns of itself, and its download bar of the threads that it leaves.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

KERAS = Path(__file__).parents[1] / "tensorflow" / "digits.keras"


def mlp(name: str = "mlp") -> Model:
    return Model.from_torch(seeded(Mlp()), {"x": torch.zeros(4, 8)}, cuts=["trunk"], name=name)


@pytest.fixture
def mlflow(tmp_path: Path) -> Iterator[Any]:
    with file_registry(tmp_path / "mlruns") as module:
        yield module


def logged(mlflow: Any, folder: Path, flavors: dict[str, Any], name: str = "other") -> str:
    """The URI of a model with the files of `folder`, as somebody else's MLflow logs it."""

    class Flavor:
        __name__ = "other"

        def save_model(self, path: str, mlflow_model: Any) -> None:
            shutil.copytree(folder, path)
            for kind, settings in flavors.items():
                mlflow_model.add_flavor(kind, **settings)
            mlflow_model.save(f"{path}/MLmodel")

    with mlflow.start_run():
        made = mlflow.models.Model.log(None, Flavor(), name=name, registered_model_name=name)
    return f"models:/{name}/{made.registered_model_version}"


# ---------------------------------------------------------------- files and folders


def test_a_bundle_a_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    mlp().save(tmp_path / "bundle")
    assert open_model(tmp_path / "bundle").fingerprint == mlp().fingerprint
    onnx = cnn(tmp_path / "m.onnx")
    assert open_model(onnx).fingerprint == Model.from_onnx(onnx).fingerprint
    assert open_model(str(KERAS)).fingerprint == Model.from_keras(KERAS).fingerprint


def test_shapes_are_those_that_are_asked_for(tmp_path: Path) -> None:
    mlp().save(tmp_path / "bundle")
    shape = MicroBatch(rows=64)
    for path in (tmp_path / "bundle", cnn(tmp_path / "m.onnx"), KERAS):
        assert open_model(path, micro_batch=shape).bundle.micro_batch == shape


@pytest.mark.parametrize(
    ("file", "why"),
    [
        ("none", "does not exist; expected the folder of a model"),
        ("m.pt", r"Model.from_torchscript\(path"),
        ("m.pkl", "may be a pickle, which runs code"),
        ("m.bin", "may be a pickle, which runs code"),
        ("m.h5", "is of the old Keras"),
        ("m.txt", "is no model file that is known"),
        ("m.onnx", "m.onnx"),
        ("m.keras", "is no model of Keras 3"),
    ],
)
def test_what_is_no_model_is_refused_with_what_to_do(tmp_path: Path, file: str, why: str) -> None:
    if file != "none":
        (tmp_path / file).write_bytes(b"noise")
    with pytest.raises(ModelError, match=why) as refused:
        open_model(tmp_path / file)
    assert refused.value.exit_code == 65
    assert "\n" not in refused.value.line()


def test_a_length_is_for_what_reads_texts(tmp_path: Path) -> None:
    mlp().save(tmp_path / "bundle")
    for path in (tmp_path / "bundle", KERAS):
        with pytest.raises(UsageError, match=r"model\.max_length: .*; leave max_length out"):
            open_model(path, max_length=8)


# ---------------------------------------------------------------- a registry


@pytest.mark.slow
def test_a_model_that_was_logged_is_the_same_on_every_way(mlflow: Any) -> None:
    model = mlp()
    with mlflow.start_run() as run:
        kvspark.log_model(model, "mlp", registered_model_name="glosses")
    mlflow.MlflowClient().set_registered_model_alias("glosses", "champion", "1")
    uris = ["models:/glosses/1", "models:/glosses@champion", f"runs:/{run.info.run_id}/mlp"]
    rows = {"x": torch.randn(5, 8)}
    expected = model.predict(rows)["scores"].tobytes()
    folders = []
    for uri in uris:
        opened = open_model(uri)
        assert opened.fingerprint == model.fingerprint
        assert opened.predict(rows)["scores"].tobytes() == expected
        assert opened.with_micro_batch(MicroBatch(rows=1)).predict(rows)["scores"].shape == (5, 3)
        folders.append(opened.bundle.source.folder)
        del opened
    # What was downloaded for a model goes with it.
    assert not any(folder.exists() for folder in folders if folder is not None)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what MLflow says while it logs is not ours
def test_what_mlflow_itself_logs_is_read(mlflow: Any, tmp_path: Path) -> None:
    """ONNX, Keras and transformers, each by its own flavor, with the fingerprint of its file or folder."""
    load_keras(KERAS, variable_length=())  # from now on keras runs on torch, for MLflow too
    import mlflow.keras
    import mlflow.onnx
    import mlflow.transformers
    import onnx
    import transformers

    path = cnn(tmp_path / "m.onnx")
    network = sys.modules["keras"].saving.load_model(KERAS, compile=False)
    folder = str(save_text_classifier(tmp_path / "whole"))
    pipeline = transformers.pipeline("text-classification", model=folder, tokenizer=folder)
    options: dict[str, Any] = {
        "pip_requirements": []
    }  # or it would look for them, in another process
    with mlflow.start_run():
        uris = [
            mlflow.onnx.log_model(onnx.load(path), name="onnx", **options).model_uri,
            mlflow.keras.log_model(network, name="keras", **options).model_uri,
            mlflow.transformers.log_model(pipeline, name="text", **options).model_uri,
        ]
    expected = [Model.from_onnx(path), Model.from_keras(KERAS), Model.from_pretrained(folder)]
    for uri, model in zip(uris, expected, strict=True):
        assert open_model(uri).fingerprint == model.fingerprint
    assert open_model(uris[2], max_length=8).fingerprint != expected[2].fingerprint


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flavors", "why"),
    [
        (
            {"pytorch": {"model_data": "data"}, "python_function": {}},
            "flavors python_function, pytorch, whose files are pickles .* kvspark.log_model",
        ),
        ({"keras": {"data": "data", "save_exported_model": True}}, "nothing that can be cut"),
        ({"onnx": {"data": "../../m.onnx"}}, "lies outside the model"),
    ],
    ids=["pickle", "saved-model", "outside"],
)
def test_a_flavor_that_cannot_be_read_safely_is_refused(
    mlflow: Any, tmp_path: Path, flavors: dict[str, Any], why: str
) -> None:
    (tmp_path / "files" / "data").mkdir(parents=True)
    (tmp_path / "files" / "data" / "model.pth").write_bytes(b"")
    with pytest.raises(ModelError, match=why):
        open_model(logged(mlflow, tmp_path / "files", flavors))


@pytest.mark.parametrize(
    ("uri", "error"),
    [
        ("models:/nobody/1", ModelError),
        ("models:/nobody@champion", ModelError),
        ("runs:/0123/m", ModelError),
        ("models:/nobody", UsageError),
        ("models:/", UsageError),
        ("runs:/0123", UsageError),
    ],
)
def test_a_model_that_is_not_there_is_one_line(
    mlflow: Any, uri: str, error: type[KvsparkError]
) -> None:
    with pytest.raises(error, match=uri) as refused:
        open_model(uri)
    assert "\n" not in refused.value.line()
    assert refused.value.exit_code == (65 if error is ModelError else 64)


def test_a_password_in_a_servers_address_is_not_told(
    mlflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> str:
        raise OSError("no answer from https://me:hidden@registry.internal/api")

    monkeypatch.setattr(mlflow.artifacts, "download_artifacts", refuse)
    with pytest.raises(ModelError, match="OSError: no reason shown") as refused:
        open_model("models:/glosses/1")
    assert "hidden" not in str(refused.value)
