"""The report of a run and the history of an output, as `kvspark.spark` makes them and this package reads them."""

from __future__ import annotations

from kvspark.spark.history import PastRun, read_history
from kvspark.spark.run_report import RunReport, StageReport, read_report
from kvspark.spark.target import REPORT_FOLDER

__all__ = ["REPORT_FOLDER", "PastRun", "RunReport", "StageReport", "read_history", "read_report"]
