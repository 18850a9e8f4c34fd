"""A model that is larger than its driver's Java heap, sent by two ways; run as a program.

    python -m tests.faults.large_model FOLDER

Prints one JSON object. Spark has a process of its own, whose heap no other test could use.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, final

import torch

from kvspark.config.job import SparkConfig
from kvspark.config.model import Way
from kvspark.errors import ModelError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.session.session import open_session
from tests.faults.conftest import names_in
from tests.spark.small_jobs import job, published, write_night

HEAP = "160m"
WEIGHTS_BYTES = 192 * 2**20

SPARK = SparkConfig(
    master="local[1,1]",
    # Spark asks for 450 MB of heap unless it is told that there are so many.
    conf={"spark.driver.memory": HEAP, "spark.testing.memory": str(512 * 2**20)},
)


@final
class Large(torch.nn.Module):
    """A wide table of which a call needs a row; random, since Spark compresses what it sends."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(19)
        self.table = torch.nn.Parameter(torch.rand(WEIGHTS_BYTES // 32, 8, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.table[7]


def main(folder: Path) -> dict[str, Any]:
    """What a run by path and one by broadcast came to, with one output after the other."""
    Model.from_torch(Large().eval(), {"x": torch.zeros(4, 8)}, cuts=None).save(folder / "model")
    night = write_night(folder / "night")
    spark = open_session(SPARK, name="large")
    said: dict[str, Any] = {}

    def run(way: Way) -> None:
        run_score(job(folder, night, model={"weights": way}), spark=spark)

    run("path")
    before = published(folder / "out")
    said["rows"] = before.num_rows
    try:
        run("broadcast")
    except ModelError as exc:
        said["error"], said["exit_code"] = exc.line(), exc.exit_code
        said["fired"] = str(exc.__cause__).count("java.lang.OutOfMemoryError")
    said["is_as_before"] = published(folder / "out").equals(before)
    said["left"] = sorted(names_in(folder))
    spark.stop()
    return said


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
