"""Batch inference on Apache Spark that never computes the same thing twice.

`import kvspark` is light: torch, pyspark and redis are imported when the name that needs them
is first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from kvspark._version import __version__
from kvspark.errors import KvsparkError
from kvspark.spec import MicroBatch, TensorSpec
from kvspark.stats import RunStats, StageStats

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.config.job import JobConfig
    from kvspark.infer.mlflow_registry import log_model
    from kvspark.infer.model import Model, explain_miss
    from kvspark.infer.open_model import open_model
    from kvspark.model.features.audio import AudioFeatures
    from kvspark.model.features.image import ImageFeatures
    from kvspark.model.features.text import TextFeatures
    from kvspark.plan.plan import Plan, StagePlan
    from kvspark.spark.check.frame_plan import measured_plan
    from kvspark.spark.jobs.run import run
    from kvspark.spark.runs.run_report import RunReport
    from kvspark.spark.runs.tally import Tally
    from kvspark.spark.scoring.score import score
    from kvspark.spark.scoring.udf import udf
    from kvspark.table.reading.read import published_files, published_folder, read

# MKL reads this at its first call. Without it a product whose rows are not a multiple of 32 bytes
# gives a row other bits at another place of the batch: 20 of 210 shapes of a linear layer, none
# with it, at the same speed. Source: Intel oneMKL, "Conditional Numerical Reproducibility".
os.environ.setdefault("MKL_CBWR", "AUTO")

__all__ = [
    "AudioFeatures",
    "Cache",
    "ImageFeatures",
    "JobConfig",
    "KvsparkError",
    "MicroBatch",
    "Model",
    "Plan",
    "RunReport",
    "RunStats",
    "StagePlan",
    "StageStats",
    "Tally",
    "TensorSpec",
    "TextFeatures",
    "__version__",
    "explain_miss",
    "log_model",
    "measured_plan",
    "open_model",
    "published_files",
    "published_folder",
    "read",
    "run",
    "score",
    "udf",
]

_HOME = {
    "AudioFeatures": "kvspark.model.features.audio",
    "Cache": "kvspark.cache.cache",
    "ImageFeatures": "kvspark.model.features.image",
    "JobConfig": "kvspark.config.job",
    "Model": "kvspark.infer.model",
    "Plan": "kvspark.plan.plan",
    "RunReport": "kvspark.spark.runs.run_report",
    "StagePlan": "kvspark.plan.plan",
    "Tally": "kvspark.spark.runs.tally",
    "TextFeatures": "kvspark.model.features.text",
    "explain_miss": "kvspark.infer.model",
    "log_model": "kvspark.infer.mlflow_registry",
    "measured_plan": "kvspark.spark.check.frame_plan",
    "open_model": "kvspark.infer.open_model",
    "published_files": "kvspark.table.reading.read",
    "published_folder": "kvspark.table.reading.read",
    "read": "kvspark.table.reading.read",
    "run": "kvspark.spark.jobs.run",
    "score": "kvspark.spark.scoring.score",
    "udf": "kvspark.spark.scoring.udf",
}
"""The module of each public name that is imported on first use."""


def __getattr__(name: str) -> object:
    """The public name `name`, imported now (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'kvspark' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
