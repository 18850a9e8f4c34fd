"""What runs the stages of each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from kvspark.errors import BundleError
from kvspark.model.features.audio import AudioComputation
from kvspark.model.features.image import ImageComputation
from kvspark.model.features.text import TextComputation
from kvspark.model.opaque.callable import CallableComputation
from kvspark.model.opaque.torchscript import open_torchscript
from kvspark.model.run.computation import Computation, GraphComputation
from kvspark.model.run.device import CPU
from kvspark.model.run.gpu_computation import on_gpu
from kvspark.model.run.onnx_computation import OnnxComputation
from kvspark.model.stage.stage import Stage

_FEATURES: Mapping[str, Callable[[Stage, Mapping[str, Path]], Computation]] = {
    "text": TextComputation.open,
    "image": ImageComputation.open,
    "audio": AudioComputation.open,
}
"""What opens the stage of each kind of features."""


def open_stage(
    stage: Stage, files: Mapping[str, Path], *, threads: int, device: str
) -> Computation:
    """What `stage` runs, of its `files` by their own names; as `Bundle.computation`."""
    if stage.kind == "graph" and device != CPU:
        return on_gpu(stage, files, device=device)
    if stage.kind == "graph":
        return GraphComputation(stage, files, threads=threads)
    if stage.kind == "onnx":
        return OnnxComputation(stage, files, threads=threads)
    if stage.kind == "callable":
        return CallableComputation.open(stage, files)
    if stage.kind == "torchscript":
        return open_torchscript(stage, files, threads=threads)
    if stage.kind in _FEATURES:
        return _FEATURES[stage.kind](stage, files)
    raise BundleError(
        f"stage {stage.name!r} is of kind {stage.kind!r}, which this version does not know"
    )
