"""Functions as models that misbehave on a worker, and behave in the driver's preflight.

What a worker did is told by files in a folder that a test has made, its trail. A program that the
test has started finds it in the environment; the workers of the session that all tests share, whose
environment is older, by the process of the test, from which they descend.
"""

from __future__ import annotations

import ctypes
import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pyspark import TaskContext

from kvspark.infer.model import Model
from kvspark.spec import TensorSpec

TRAIL_ENV = "KVSPARK_TESTS_TRAIL"
OPEN = "open"
"""The file that lets workers go on."""

_CALLS: Counter[int] = Counter()
"""Of a function, by the attempt of a task."""

X = TensorSpec("x", "float32", (8,))
Y = TensorSpec("y", "float32", (8,))


def trail_of(pid: int) -> Path:
    """The folder of the test that the process `pid` runs."""
    return Path(tempfile.gettempdir(), f"kvspark-tests-{pid}")


def function_model(function: Any) -> Model:
    """The model that one of these functions is."""
    return Model.from_callable(function, fingerprint="1", inputs=[X], outputs=[Y])


def doubled(x: Any) -> Any:
    return x * np.float32(2)


def _leaves(what: str) -> Path | None:
    """The trail, after a file was left in it; None on the driver."""
    context = TaskContext.get()
    if context is None:
        return None
    named = os.environ.get(TRAIL_ENV)
    places = [Path(named)] if named else []
    for trail in [*places, *(trail_of(each.pid) for each in psutil.Process().parents())]:
        if trail.is_dir():
            name = f"{what}-{context.partitionId()}-{context.attemptNumber()}-{os.getpid()}"
            (trail / name).touch()
            return trail
    raise RuntimeError("no test has made a trail")


def dies_once(x: Any) -> Any:
    """Killed by the kernel at the first attempt of each task."""
    context = TaskContext.get()
    if context is not None and context.attemptNumber() == 0:
        _leaves("dies")
        os.kill(os.getpid(), signal.SIGKILL)
    return doubled(x)


def always_dies(x: Any) -> Any:
    """A segmentation fault."""
    if _leaves("dies"):
        ctypes.string_at(0)
    return doubled(x)


def hangs(x: Any) -> Any:
    if _leaves("hangs"):
        time.sleep(3_600)
    return doubled(x)


def hungry(x: Any) -> Any:
    """Takes 32 GB of addresses."""
    if _leaves("hungry"):
        return np.ones((1 << 30, 8), dtype="float32")[: len(x)]
    return doubled(x)


def gated(x: Any) -> Any:
    """Goes on when the test lets it."""
    trail = _leaves("waits")
    while trail is not None and not (trail / OPEN).exists():
        time.sleep(0.02)
    return doubled(x)


def gated_later(x: Any) -> Any:
    """The first attempt of a task goes on after its first call when the test lets it."""
    context = TaskContext.get()
    if context is not None and context.attemptNumber() == 0:
        _CALLS[context.taskAttemptId()] += 1
        return gated(x) if _CALLS[context.taskAttemptId()] > 1 else doubled(x)
    return doubled(x)


def random(x: Any) -> Any:
    """Other bits each time."""
    return x + np.random.default_rng().standard_normal(x.shape).astype("float32")


def with_nan(x: Any) -> Any:
    """NaN with a payload, infinities and -0.0 among its results."""
    made = doubled(x)
    made[:, 0] = np.frombuffer(b"\x01\x00\xc0\x7f", dtype="<f4")[0]
    made[:, 1] = np.inf
    made[:, 2] = -0.0
    return made


def gives_none(x: Any) -> Any:
    return None


def gives_doubles(x: Any) -> Any:
    return x.astype("float64")


def fails_at_a_row(x: Any) -> Any:
    """Refuses rows whose first value is 3.25, and says what they hold."""
    if (x[:, 0] == np.float32(3.25)).any():
        raise ValueError(f"bad value {x[0, 0]}")
    return doubled(x)
