"""Where programs written for 0.1 find `run_score`; new ones call `kvspark.run`."""

from __future__ import annotations

from kvspark.spark.jobs.job import run_score

__all__ = ["run_score"]
