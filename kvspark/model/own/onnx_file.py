"""onnxruntime, on the file that a model was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from kvspark.errors import ModelError
from kvspark.model.own.runtime import Array, FileRuntime, Row, RunRow, batch_of_one
from kvspark.spec import TensorSpec

_QUIET = 3


@final
class OnnxFile(FileRuntime):
    """The uncut file, in a session with onnxruntime's own settings."""

    library = "onnxruntime"

    def open(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> RunRow:
        path = self.path()
        try:
            import onnxruntime
        except ImportError as error:
            raise ModelError("onnxruntime is not installed; install kvspark[onnx]") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _QUIET
        names = [spec.name for spec in outputs]
        session = _session(path, options)
        there = {value.name for value in session.get_outputs()}
        inner = [name for name in names if name not in there]
        if inner:
            session = _session(_with_outputs(path, inner), options)

        def run(row: Row) -> Mapping[str, Array]:
            feeds = {spec.name: batch_of_one(row, spec) for spec in inputs}
            made = session.run(names, feeds)
            return {name: array[0] for name, array in zip(names, made, strict=True)}

        return run


def _session(model: Path | bytes, options: Any) -> Any:
    import onnxruntime

    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def _with_outputs(path: Path, names: Sequence[str]) -> bytes:
    """The file with more values of its graph as outputs, for a model that was made with `outputs=`."""
    import onnx

    model = onnx.load(str(path))
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    content: bytes = model.SerializeToString()
    return content
