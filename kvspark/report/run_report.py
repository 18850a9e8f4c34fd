"""The report of a run, as `kvspark.spark` makes it and everything in this package reads it."""

from __future__ import annotations

from kvspark.spark.run_report import RunReport, StageReport

__all__ = ["RunReport", "StageReport"]
