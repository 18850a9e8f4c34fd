"""Models and tables that the Spark tests share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pyspark.sql import DataFrame, SparkSession

from kvspark.infer.model import Model
from tests.small_models import Mlp, Towers, seeded

ROWS = 500


@pytest.fixture(scope="session")
def mlp() -> Model:
    """Input x: float32 (8,); outputs scores: float32 (3,) and label: int64; stages trunk and output."""
    return Model.from_torch(seeded(Mlp()), {"x": torch.zeros(4, 8)}, cuts=["trunk"], name="mlp")


@pytest.fixture(scope="session")
def towers() -> Model:
    """Inputs user: float32 (8,) and item: float32 (6,); output: float32."""
    examples = {"user": torch.zeros(4, 8), "item": torch.zeros(4, 6)}
    return Model.from_torch(seeded(Towers()), examples, cuts=["user", "item"], name="towers")


def features(rows: int = ROWS, width: int = 8, seed: int = 3) -> np.ndarray:
    """float32 (rows, width), the same each time."""
    return np.random.default_rng(seed).standard_normal((rows, width)).astype("float32")


@pytest.fixture(scope="session")
def table(spark: SparkSession) -> DataFrame:
    """`id` and `x` in four partitions."""
    rows = [(i, row.tolist()) for i, row in enumerate(features())]
    return spark.createDataFrame(rows, "id long, x array<float>").repartition(4, "id").cache()
