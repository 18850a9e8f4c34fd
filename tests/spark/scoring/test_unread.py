"""An action that reads only some rows leaves no traceback behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from kvspark.spark.scoring.unread import end_if_unread

pytestmark = pytest.mark.spark

ROOT = Path(__file__).parents[3]

SHOW = """
import sys, torch, kvspark
from pyspark.sql import SparkSession, functions as F
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
model = kvspark.Model.from_torch(torch.nn.Linear(4, 2).eval(), {"input": torch.zeros(2, 4)})
rows = spark.range(300_000).withColumn("input", F.array(*[F.col("id").cast("float")] * 4)).coalesce(1)
scored = kvspark.score(rows, model)
scored.show(2)
print(scored.limit(5).count(), scored.head().id)
"""


def test_show_and_limit_end_without_a_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SHOW],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-2:] == ["5", "0"]
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


def test_a_generator_that_is_closed_elsewhere_ends_no_process() -> None:
    def rows() -> Generator[int]:
        try:
            yield 1
        except GeneratorExit as exc:
            end_if_unread(exc)
            raise

    made = rows()
    next(made)
    made.close()  # not while a write has failed, and in no worker
