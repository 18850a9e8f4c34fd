"""What an ONNX stage runs: one model file in one onnxruntime session on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from kvspark.errors import BundleError, ModelError
from kvspark.model.run.computation import Computation
from kvspark.model.stage.stage import Stage
from kvspark.spec import Rows

if TYPE_CHECKING:
    import onnxruntime

MODEL_FILE = "model.onnx"

PROVIDERS = ["CPUExecutionProvider"]


@final
class OnnxComputation(Computation):
    """A graph of ONNX operators with its weights; its arguments are bound by position."""

    def __init__(self, stage: Stage, files: Mapping[str, Path], *, threads: int) -> None:
        try:
            path = files[MODEL_FILE]
        except KeyError as error:
            raise BundleError(f"stage {stage.name!r} has no {MODEL_FILE}; save it again") from error
        self._session = open_session(path, threads=threads)
        self._names = [value.name for value in self._session.get_inputs()]
        if len(self._names) != len(stage.sources):
            raise BundleError(
                f"stage {stage.name!r}: {MODEL_FILE} takes {len(self._names)} tensors, the manifest "
                f"names {len(stage.sources)}; save the model again"
            )

    def run(self, arguments: Sequence[Any]) -> tuple[Rows, ...]:
        made: Sequence[Any] = self._session.run(
            None, dict(zip(self._names, arguments, strict=True))
        )
        return tuple(made)


def open_session(model: Path | bytes, *, threads: int) -> onnxruntime.InferenceSession:
    """A session of `model` with `threads` threads whose results follow from its arguments alone.

    Raises:
        ModelError: onnxruntime is not installed, or cannot run the model.
    """
    # Here and not at the top: a worker whose rows are all hits never imports it.
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            "an ONNX model needs onnxruntime; install kvspark[onnx] here and on the workers"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    # What is fatal only: its errors, which are raised as well, name values of rows.
    options.log_severity_level = 4
    # A pool that spins while it waits takes the core of the worker beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(source, options, providers=PROVIDERS)
    # onnxruntime's errors have no common root of their own.
    except Exception as error:
        raise ModelError(
            f"onnxruntime cannot open the model ({type(error).__name__}: {first_line(error)})"
        ) from error


def first_line(error: Exception) -> str:
    """What onnxruntime says first."""
    return str(error).split("\n", 1)[0][:300]
