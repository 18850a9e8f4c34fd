"""A new target on each server, and a folder with a model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from kvspark.infer.model import Model
from tests.spark.sources.twins import remote_folder


@pytest.fixture(params=["s3", "hdfs"])
def url(request: pytest.FixtureRequest, spark: SparkSession) -> Iterator[str]:
    """A new target."""
    with remote_folder(request.param, request, spark) as url:
        yield f"{url}/scores"


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    """With the model in `model`."""
    mlp.save(tmp_path / "model")
    return tmp_path
