"""Models in an MLflow registry: `models:/NAME/VERSION`, `models:/NAME@ALIAS` and `runs:/ID/PATH`.

A model's folder there has an MLmodel file that names its flavors. Taken are those that hold no pickle:

    kvspark                  a bundle, as `log_model` writes it
    onnx, keras, tensorflow  an ONNX or a .keras file
    transformers             a network and its tokenizer or image processor
    sentence_transformers    a folder of sentence-transformers

Where the tracking server is, and how one logs in, is MLflow's own matter (MLFLOW_TRACKING_URI, ...).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import yaml

from kvspark.config.section.secret import has_password
from kvspark.errors import ModelError, UsageError

if TYPE_CHECKING:
    from kvspark.infer.model import Model

SCHEMES = ("models:/", "runs:/")
MLMODEL = "MLmodel"
Settings = Mapping[str, Any]
"""What an MLmodel file says of one flavor."""

BUNDLE = "bundle"
"""The folder of the bundle inside a model of our flavor."""


def is_registry_uri(path: str) -> bool:
    """True if `path` names a model of a registry, not one of a file system."""
    return path.startswith(SCHEMES)


def checked_uri(uri: str) -> str:
    """`uri`, if it has the form of a model's.

    Raises:
        UsageError: it has not.
    """
    rest = uri.split(":/", 1)[1]
    if uri.startswith("runs:/"):
        is_right = rest.count("/") >= 1 and all(rest.split("/"))
    else:
        name, _, version = rest.partition("/")
        is_right = (
            bool(version and name)
            if "/" in rest
            else "@" in rest.strip("@") or rest.startswith("m-")
        )
    if not is_right:
        raise UsageError(
            f"{uri} names no model; expected models:/NAME/VERSION, models:/NAME@ALIAS or runs:/ID/PATH"
        )
    return uri


def log_model(model: Model, name: str, *, registered_model_name: str | None = None) -> str:
    """The `models:/` URI of `model`, logged to MLflow as `name` in the run that is active, or in a new one.

    With `registered_model_name` it also becomes the next version of that registered model.

    Raises:
        ModelError: mlflow is not installed, or the tracking server refuses.
    """
    mlflow = _mlflow()
    try:
        logged = mlflow.models.Model.log(
            artifact_path=None,
            name=name,
            flavor=_Flavor(model),
            registered_model_name=registered_model_name,
        )
    except mlflow.exceptions.MlflowException as error:
        raise _refused(f"{name} cannot be logged", error) from error
    return str(logged.model_uri)


@final
class _Flavor:
    """What MLflow calls a flavor: something with a `save_model`."""

    __name__ = "kvspark"

    def __init__(self, model: Model) -> None:
        self._model = model

    def save_model(self, path: str, mlflow_model: Any) -> None:
        """Writes the folder that is logged."""
        from kvspark._version import __version__

        self._model.save(Path(path) / BUNDLE)
        mlflow_model.add_flavor(
            self.__name__,
            data=BUNDLE,
            kvspark_version=__version__,
            fingerprint=self._model.fingerprint.hex(),
        )
        mlflow_model.save(str(Path(path) / MLMODEL))


def download(uri: str, into: Path) -> Path:
    """The folder of the model `uri`, copied to below `into`.

    Raises:
        ModelError: there is no such model, mlflow is not installed, or the server does not answer.
    """
    mlflow = _mlflow()
    try:
        found = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(into)))
    # Beside MLflow's own: what the client of an object store or of HTTP raises.
    except Exception as error:
        raise _refused(f"{uri} cannot be downloaded", error) from error
    return found


def flavor_of(folder: Path, name: str, scratch: Path) -> tuple[str, Path]:
    """What the MLflow model in `folder` is, and where it is; `name` is what an error calls it.

    `kvspark`: a bundle's folder. `file`: an ONNX or Keras file. `pretrained`: a folder for
    `Model.from_pretrained`, put together in `scratch` where MLflow has it in pieces.

    Raises:
        ModelError: it has no flavor that can be read without running code.
    """
    try:
        flavors = yaml.safe_load((folder / MLMODEL).read_text(encoding="utf-8"))["flavors"]
        found = {kind: flavors[kind] for kind in _FLAVORS if kind in flavors}
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise ModelError(
            f"{name}: its {MLMODEL} cannot be read ({type(error).__name__})"
        ) from error
    for kind, settings in found.items():
        opened = _FLAVORS[kind](folder, settings, scratch)
        if opened is not None:
            return opened
    raise ModelError(
        f"{name} has the flavors {', '.join(flavors) or 'none'}, whose files are pickles or nothing that "
        "can be cut; log it with kvspark.log_model, or as onnx, keras, transformers or "
        "sentence_transformers"
    )


def _bundle(folder: Path, settings: Settings, scratch: Path) -> tuple[str, Path]:
    del scratch
    return "kvspark", _inside(folder, settings.get("data", BUNDLE))


def _onnx(folder: Path, settings: Settings, scratch: Path) -> tuple[str, Path]:
    del scratch
    return "file", _inside(folder, settings.get("data", "model.onnx"))


def _keras(folder: Path, settings: Settings, scratch: Path) -> tuple[str, Path] | None:
    del scratch
    file = _inside(folder, settings.get("data", "data")) / "model.keras"
    return ("file", file) if file.is_file() else None


def _sentences(folder: Path, settings: Settings, scratch: Path) -> tuple[str, Path]:
    del settings, scratch
    return "pretrained", _inside(folder, "model.sentence_transformer")


def _transformers(folder: Path, settings: Settings, scratch: Path) -> tuple[str, Path] | None:
    """The network's folder with the files of its tokenizer or processor, which MLflow keeps apart."""
    network = _inside(folder, settings.get("model_binary", "model"))
    if not network.is_dir():
        return None
    parts = [_inside(folder, f"components/{name}") for name in settings.get("components") or ()]
    for part in (network, *parts):
        if part.is_dir():
            shutil.copytree(part, scratch, dirs_exist_ok=True, copy_function=_linked)
    return "pretrained", scratch


_FLAVORS: Mapping[str, Callable[[Path, Settings, Path], tuple[str, Path] | None]] = {
    "kvspark": _bundle,
    "onnx": _onnx,
    "keras": _keras,
    "tensorflow": _keras,
    "transformers": _transformers,
    "sentence_transformers": _sentences,
}
"""What opens each flavor, best first: a model often has `python_function` and others as well."""


def _linked(source: str, target: str) -> None:
    if not Path(target).exists():
        Path(target).symlink_to(source)


def _inside(folder: Path, name: object) -> Path:
    found = (folder / str(name)).resolve()
    if not found.is_relative_to(folder.resolve()):
        raise ModelError(f"{MLMODEL} names {name!r}, which lies outside the model")
    return found


def _mlflow() -> Any:
    try:
        import mlflow
        import mlflow.artifacts
        import mlflow.models
    except ImportError as error:
        raise ModelError("a model of a registry needs mlflow; install kvspark[mlflow]") from error
    return mlflow


def _refused(what: str, error: Exception) -> ModelError:
    lines = str(error).splitlines()
    told = lines[0].strip()[:200] if lines and not has_password(lines[0]) else "no reason shown"
    return ModelError(f"{what} ({type(error).__name__}: {told}); see MLFLOW_TRACKING_URI")
