"""`cache=` takes a URL on every way in, and means the same cache everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame

import kvspark
from kvspark.cache.cache import Cache
from kvspark.cache.cache_argument import given_cache
from kvspark.errors import UsageError
from kvspark.infer.model import Model
from kvspark.spark.runs.tally import Tally
from tests.spark.conftest import ROWS, features


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"embedded:{tmp_path / 'cache'}"


def test_a_url_is_the_cache_of_the_model_s_name() -> None:
    given = given_cache("redis://localhost:6379/2", namespace="churn")
    assert given is not None
    connected = Cache.connect("redis://localhost:6379/2", namespace="churn")
    assert given.config == connected.config
    assert given_cache(given, namespace="other") is given
    assert given_cache(None, namespace="other") is None


@pytest.mark.parametrize(
    "cache", [5, Path("x"), {"url": "memory://"}], ids=lambda v: type(v).__name__
)
def test_anything_else_is_refused_in_words(mlp: Model, cache: Any) -> None:
    with pytest.raises(UsageError, match=r"cache: expected a kvspark\.Cache or the URL of a store"):
        mlp.predict({"x": features()}, cache=cache)


@pytest.mark.parametrize("place", ["localhost:6379", "cache.internal:6380/2"])
def test_a_place_without_its_kind_is_told_its_url(place: str) -> None:
    with pytest.raises(UsageError, match=f"write redis://{place}$"):
        Cache.connect(place, namespace="n")


@pytest.mark.spark
@pytest.mark.redis
def test_one_url_is_one_cache_in_predict_score_and_udf(
    table: DataFrame, mlp: Model, url: str
) -> None:
    x = features()
    expected = mlp.predict({"x": x}, cache=url, threads=1)
    tally = Tally(table.sparkSession)
    scored = kvspark.score(table, mlp, cache=url, stats=tally).toPandas().sort_values("id")
    assert scored["label"].tolist() == expected["label"].tolist()
    assert tally.stats.stages["output"].hits == ROWS
    function = kvspark.udf(mlp, cache=url, output="scores")
    by_udf = table.select("id", function("x").alias("scores")).toPandas().sort_values("id")
    assert np.array_equal(np.stack(by_udf["scores"].tolist()), expected["scores"])


def test_this_process_s_memory_is_found_again(mlp: Model) -> None:
    model = Model(mlp.bundle)
    model.predict({"x": features()}, cache="memory://")
    kept = given_cache("memory://", namespace=model.name)
    assert kept is not None
    assert kept.config.url == f"memory://{model.name}"
