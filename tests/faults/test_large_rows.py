"""What is too large: a model for its driver's heap, a micro-batch for its device."""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import pytest
import torch

from kvspark.cache.cache import Cache
from kvspark.infer.model import Model
from kvspark.infer.predictor import OUT_OF_MEMORY, Predictor
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.run.backing_off import BackingOff
from kvspark.model.run.computation import Computation
from kvspark.spec import Rows
from tests.faults.conftest import Fired
from tests.faults.matrix import covers

ROOM_BYTES = 96 * 2**20
"""Of the device that computes micro-batches; half of one is too large for it as well."""

ROW_BYTES = 4 * 2**20
"""That a row takes there."""


@pytest.mark.spark
@pytest.mark.slow
@covers("B19")
def test_a_model_that_the_driver_cannot_broadcast_is_told_with_what_to_do(
    tmp_path: Path, fired: Fired
) -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.large_model", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(root), "PYSPARK_PYTHON": sys.executable},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    fired("B19", told["fired"])
    assert told["exit_code"] == 65
    assert "too large to be broadcast" in told["error"]
    assert "model.weights path" in told["error"]
    # The same model had gone by path before.
    assert (told["rows"], told["is_as_before"]) == (200, True)
    assert told["left"] == ["model", "night", "out"]


@final
class Wide(torch.nn.Module):
    """A trunk that takes `ROW_BYTES` a row while it computes, and a head that takes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Sequential(Repeat(), torch.nn.AvgPool1d(ROW_BYTES // 32))
        self.head = torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x))


@final
class Repeat(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.repeat_interleave(ROW_BYTES // 32, dim=1)


@final
class SmallDevice(Computation):
    """A CPU whose memory is really full: the kernel gives `ROOM_BYTES` more, and then no more.

    It says so as a GPU does; torch's allocator for CPUs has no error class of its own.
    """

    def __init__(self, inner: Computation) -> None:
        self._inner = inner
        self.full = 0
        self.rows: list[int] = []

    def run(self, arguments: Sequence[Any]) -> tuple[Rows, ...]:
        self.rows.append(len(arguments[0]))
        gc.collect()  # what it frees later would be room that nobody counted
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + ROOM_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
        try:
            return self._inner.run(arguments)
        except RuntimeError as exc:
            if "can't allocate memory" not in str(exc):
                raise
            self.full += 1
            raise torch.OutOfMemoryError("the device is full") from exc
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@covers("B23")
def test_a_device_that_is_full_gets_half_of_the_rows_and_nothing_of_them_is_kept(
    monkeypatch: pytest.MonkeyPatch, fired: Fired, caplog: pytest.LogCaptureFixture
) -> None:
    model = Model.from_torch(Wide().eval(), {"x": torch.zeros(4, 8)}, cuts=["trunk"])
    x = np.random.default_rng(23).standard_normal((70, 8)).astype("float32")
    columns = {"x": pa.array(x.tolist(), pa.list_(pa.float32()))}
    whole = Predictor(model.bundle).predict(columns)
    devices: dict[str, SmallDevice] = {}
    computed_by = Bundle.computation

    def on_small_device(self: Bundle, stage: Any, **options: Any) -> Computation:
        device = devices[stage.name] = SmallDevice(computed_by(self, stage, **options))
        return BackingOff(device, stage.name, lambda: None)

    monkeypatch.setattr(Bundle, "computation", on_small_device)
    cache = Cache.connect("memory://full-device", namespace="faults")
    predictor = Predictor(model.bundle, cache=cache)
    made = predictor.predict(columns)
    stats = predictor.drain()
    trunk = devices["trunk"]
    fired("B23", trunk.full)
    assert trunk.rows[:2] == [32, 16]
    assert set(trunk.rows[1:]) == {16}
    assert_close(made, whole)
    assert "does not hold 32 rows of a micro-batch; going on with 16" in caplog.text
    assert stats.degraded == {OUT_OF_MEMORY}
    assert all(stage.bytes_written == 0 for stage in stats.stages.values())


def assert_close(made: dict[str, Any], whole: dict[str, Any]) -> None:
    """Other shapes may give other last bits, which is why nothing is kept."""
    for name, column in whole.items():
        wanted = np.array(column.to_pylist())
        np.testing.assert_allclose(np.array(made[name].to_pylist()), wanted, rtol=1e-5, atol=1e-6)
