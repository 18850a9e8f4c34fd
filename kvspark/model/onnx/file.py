"""An ONNX file and the files beside it that hold its weights."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from onnx.inliner import inline_local_functions

from kvspark.errors import ExportError


def load_file(path: Path) -> onnx.ModelProto:
    """The model in the file `path`, its external data included, without functions of its own.

    Raises:
        ExportError: it is no ONNX model, or a file with its weights is missing; names it.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        raise ExportError(f"{path} does not exist; expected an ONNX file") from None
    except Exception as error:  # protobuf, onnx and the file system have an error each
        raise ExportError(
            f"{path} holds no ONNX model ({type(error).__name__}); export it again"
        ) from error
    _check_beside(path, model)
    try:
        onnx.load_external_data_for_model(model, str(path.parent))
        return inline_local_functions(model) if model.functions else model
    except Exception as error:
        raise ExportError(
            f"the weights of {path} cannot be read ({type(error).__name__}); copy the files that lie beside "
            "it again, or save the model in one file"
        ) from error


def _check_beside(path: Path, model: onnx.ModelProto) -> None:
    named = {ExternalDataInfo(t).location for t in model.graph.initializer if uses_external_data(t)}
    for location in sorted(named):
        if not (path.parent / location).is_file():
            raise ExportError(
                f"{path} keeps its weights in the file {location!r}, which is not beside it; copy that file to "
                f"{path.parent}, or save the model in one file"
            )
