"""What runs a model where kvspark is not: each source's own runtime, one file for each of them."""

from __future__ import annotations

from kvspark.model.own.function import Function
from kvspark.model.own.keras_file import KerasFile
from kvspark.model.own.onnx_file import OnnxFile
from kvspark.model.own.pretrained import PretrainedFolder
from kvspark.model.own.runtime import Array, OwnRuntime, Row, RunRow
from kvspark.model.own.stages import Stages
from kvspark.model.own.torch_module import TorchModule
from kvspark.model.own.torchscript_file import TorchScriptFile

__all__ = [
    "Array",
    "Function",
    "KerasFile",
    "OnnxFile",
    "OwnRuntime",
    "PretrainedFolder",
    "Row",
    "RunRow",
    "Stages",
    "TorchModule",
    "TorchScriptFile",
]
