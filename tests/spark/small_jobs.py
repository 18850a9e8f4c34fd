"""A small job: a model on disk, nights of rows, and what a run of it published."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from kvspark.config.job import JobConfig
from tests.spark.conftest import features


def write_night(path: Path, rows: int = 200, *, seed: int = 3, files: int = 2) -> Path:
    """A folder of `id` and `x` in `files` files."""
    path.mkdir(parents=True)
    x = features(rows, seed=seed)
    for number, place in enumerate(np.array_split(np.arange(rows), files)):
        pq.write_table(pa.table({"id": place, "x": list(x[place])}), path / f"{number}.parquet")
    return path


def job(folder: Path, night: Path, **sections: Mapping[str, Any]) -> JobConfig:
    """The job that scores `night` with the model in `folder/model` into `folder/out`."""
    conf: dict[str, Any] = {
        "run": {"name": "small", "id": "night"},
        "input": {"paths": [str(night)]},
        "model": {"path": str(folder / "model")},
        "output": {"path": str(folder / "out")},
        "spark": {"master": "local[2,4]"},
    }
    for name, values in sections.items():
        conf[name] = {**conf.get(name, {}), **values}
    return JobConfig.checked(**conf)


def published(path: Path) -> pa.Table:
    """All rows that a reader of `path` finds, by id."""
    return ds.dataset(path, format="parquet").to_table().sort_by("id")
