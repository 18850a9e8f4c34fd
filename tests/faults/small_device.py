"""A device whose memory is full, and a model whose micro-batches it does not hold; run as a program.

    python -m tests.faults.small_device

Prints one JSON object. The device is the memory of a process, which must hold nothing of other tests.
"""

from __future__ import annotations

import json
import logging
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
import pyarrow as pa
import torch

from kvspark.cache.cache import Cache
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.run.backing_off import BackingOff
from kvspark.model.run.computation import Computation
from kvspark.spec import Rows

ROW_BYTES = 16 * 2**20
"""That a row takes on the device that computes micro-batches."""

ROOM_BYTES = 24 * ROW_BYTES
"""Of that device: it holds 16 rows and not 32.

It is 128 MiB from both. Another thread may give address space back between the reading of a
process's size and the limit: glibc maps 128 MiB for a new heap and unmaps 64 of them.
"""


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


@final
class Said(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main() -> dict[str, Any]:
    """What 70 rows came to on a small device, and on one that holds a micro-batch."""
    said = Said()
    logging.getLogger("kvspark").addHandler(said)
    model = Model.from_torch(Wide().eval(), {"x": torch.zeros(4, 8)}, cuts=["trunk"])
    x = np.random.default_rng(23).standard_normal((70, 8)).astype("float32")
    columns = {"x": pa.array(x.tolist(), pa.list_(pa.float32()))}
    whole = Predictor(compiled_plan(model.bundle)).predict(columns)
    devices: dict[str, SmallDevice] = {}
    computed_by = Bundle.computation

    def on_small_device(self: Bundle, stage: Any, **options: Any) -> Computation:
        device = devices[stage.name] = SmallDevice(computed_by(self, stage, **options))
        return BackingOff(device, stage.name, lambda: None)

    Bundle.computation = on_small_device  # type: ignore[method-assign]  # a device that there is not
    cache = Cache.connect("memory://full-device", namespace="faults")
    predictor = Predictor(compiled_plan(model.bundle), cache=cache)
    made = predictor.predict(columns)
    stats = predictor.drain()
    return {
        "full": devices["trunk"].full,
        "rows": devices["trunk"].rows,
        "made": {name: column.to_pylist() for name, column in made.items()},
        "whole": {name: column.to_pylist() for name, column in whole.items()},
        "said": said.lines,
        "degraded": sorted(stats.degraded),
        "bytes_written": [stage.bytes_written for stage in stats.stages.values()],
    }


if __name__ == "__main__":
    print(json.dumps(main()))
