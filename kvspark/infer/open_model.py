"""The model that a conf or a person names by one text, whatever kind it is.

    a folder with manifest.json            a bundle, as Model.save wrote it
    a folder with MLmodel                  a model of MLflow, by its flavor
    any other folder                       transformers or sentence-transformers
    a file .onnx, .keras                   what it says
    models:/NAME/VERSION, models:/NAME@ALIAS, runs:/ID/PATH      a model of an MLflow registry

A model has the same fingerprint on each of these ways.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, TypedDict, final

from kvspark.errors import ModelError, UsageError
from kvspark.infer.mlflow_registry import MLMODEL, checked_uri, download, flavor_of, is_registry_uri
from kvspark.infer.model import Model
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.bundle.manifest import MANIFEST
from kvspark.model.pretrained.folder_kind import TENSORFLOW
from kvspark.spec import MicroBatch

_TORCHSCRIPT = (".pt", ".jit", ".ts", ".torchscript")
_PICKLES = (".pkl", ".pickle", ".joblib", ".bin", ".pth", ".ckpt")
_OLD_KERAS = (".h5", ".hdf5")


@final
class OpenOptions(TypedDict, total=False):
    """What else `open_model` takes."""

    max_length: int | None
    micro_batch: MicroBatch | None
    dtype: str | None
    long_texts: str | None
    prompt: str | None
    prompt_name: str | None
    truncate_dim: int | None


def open_model(
    path: str | Path,
    *,
    max_length: int | None = None,
    micro_batch: MicroBatch | None = None,
    dtype: str | None = None,
    long_texts: str | None = None,
    prompt: str | None = None,
    prompt_name: str | None = None,
    truncate_dim: int | None = None,
) -> Model:
    """The model at `path`, a folder, a file or the URI of a registry, called in shapes of `micro_batch`.

    `max_length` is for a folder that reads texts, `dtype` and what follows for a pretrained folder.

    Raises:
        ModelError: nothing is there, or nothing that can be opened without running code.
        UsageError: `max_length` is given for what reads no texts, or was saved with its length; `dtype`
            or what follows for what has one already.
    """
    name = str(path)
    given: dict[str, Any] = {
        "dtype": dtype,
        "long_texts": long_texts,
        "prompt": prompt,
        "prompt_name": prompt_name,
        "truncate_dim": truncate_dim,
    }
    chosen = {key: value for key, value in given.items() if value is not None}
    if chosen:
        if not is_pretrained(Path(path)):
            key = next(iter(chosen))
            raise UsageError(
                f"model.{key}: {name} has the {key} that it was made with; leave {key} out, or name the "
                "folder of a pretrained model"
            )
        return Model.from_pretrained(path, max_length=max_length, micro_batch=micro_batch, **chosen)
    if is_registry_uri(name):
        return _from_registry(name, max_length, micro_batch)
    return _opened(Path(path), name, max_length, micro_batch)


def _from_registry(name: str, max_length: int | None, micro_batch: MicroBatch | None) -> Model:
    checked_uri(name)
    root = Path(tempfile.mkdtemp(prefix="kvspark-registry-"))
    model = None
    try:
        model = _opened(download(name, root), name, max_length, micro_batch)
    finally:
        if model is None or not _lies_in(model.bundle, root):
            shutil.rmtree(root, ignore_errors=True)
    if root.exists():
        # Only this machine has it: without its manifest nobody takes it for a folder that workers share.
        source = model.bundle.source
        assert source.folder is not None
        (source.folder / MANIFEST).unlink()
        weakref.finalize(source, shutil.rmtree, root, ignore_errors=True)
    return model


def _opened(path: Path, name: str, max_length: int | None, micro_batch: MicroBatch | None) -> Model:
    if not path.exists():
        raise ModelError(
            f"{name} does not exist; expected the folder of a model, a .onnx or .keras file, or "
            "models:/NAME/VERSION of a registry"
        )
    if path.is_file():
        return _from_file(path, name, max_length, micro_batch)
    if Model.is_saved_at(path):
        _no_length(name, max_length, "is a saved model, whose length was chosen when it was made")
        model = Model.load(path)
        return model if micro_batch is None else model.with_micro_batch(micro_batch)
    if (path / MLMODEL).is_file():
        return _from_mlflow(path, name, max_length, micro_batch)
    return Model.from_pretrained(path, max_length=max_length, micro_batch=micro_batch)


def is_pretrained(path: Path) -> bool:
    """True if `path` is the folder of a pretrained model, which can be opened in another dtype."""
    return path.is_dir() and not Model.is_saved_at(path) and not (path / MLMODEL).is_file()


def _from_mlflow(
    folder: Path, name: str, max_length: int | None, micro_batch: MicroBatch | None
) -> Model:
    with tempfile.TemporaryDirectory(prefix="kvspark-mlflow-") as scratch:
        kind, found = flavor_of(folder, name, Path(scratch))
        if kind == "file":
            return _from_file(found, f"{name} ({found.name})", max_length, micro_batch)
        return _opened(found, f"{name} ({kind})", max_length, micro_batch)


def _from_file(
    path: Path, name: str, max_length: int | None, micro_batch: MicroBatch | None
) -> Model:
    kind = path.suffix.lower()
    if kind in (".onnx", ".keras"):
        _no_length(name, max_length, "reads no texts")
        if kind == ".onnx":
            return Model.from_onnx(path, micro_batch=micro_batch)
        return Model.from_keras(path, micro_batch=micro_batch)
    raise ModelError(f"{name} {_advice(kind)}")


def _advice(kind: str) -> str:
    if kind in _TORCHSCRIPT:
        return (
            "does not say what it takes and gives; make a bundle of it once with "
            "Model.from_torchscript(path, inputs=..., outputs=...).save(folder), and name the folder"
        )
    if kind in _PICKLES:
        return (
            "may be a pickle, which runs code when it is read; save the model with save_pretrained, as ONNX "
            "or with Model.from_torch(...).save(folder)"
        )
    if kind == ".safetensors":
        return (
            "holds weights and no model; name the folder that it lies in, with its config.json, or make a "
            "bundle with Model.from_torch(...).save(folder)"
        )
    if kind == ".gguf":
        return (
            "is of llama.cpp, whose weights are packed for it alone; name the folder of the model that it was "
            "made from"
        )
    if kind == ".pb":
        return f"is of TensorFlow; {TENSORFLOW}"
    if kind in _OLD_KERAS:
        return "is of the old Keras; load it there, save it as a .keras file, and name that"
    return "is no model file that is known; expected .onnx or .keras, or the folder of a model"


def _no_length(name: str, max_length: int | None, why: str) -> None:
    if max_length is not None:
        raise UsageError(
            f"model.max_length: {name} {why}; leave max_length out, or name the folder of the "
            "pretrained model"
        )


def _lies_in(bundle: Bundle, root: Path) -> bool:
    folder = bundle.source.folder
    return folder is not None and folder.resolve().is_relative_to(root.resolve())
