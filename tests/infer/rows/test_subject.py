"""Rows that are bound to subjects: the same bits, and no entry that two subjects share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvspark.cache.cache import Cache
from kvspark.config.cache import CacheConfig
from kvspark.errors import SchemaError
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from tests.small_models import Mlp, seeded

ROWS = np.random.default_rng(0).standard_normal((6, 8)).astype("<f4")


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_torch(seeded(Mlp()), {"x": torch.zeros(4, 8)}, cuts=["trunk"])


@pytest.fixture
def cache() -> Iterator[Cache]:
    with_subject = CacheConfig.checked(url="memory://subjects", namespace="n", subject="user")
    cache = Cache(with_subject)
    yield cache
    cache.close()


def test_equal_rows_of_two_subjects_are_computed_for_each(model, cache):
    predictor = Predictor(compiled_plan(model.bundle), cache=cache)
    rows = {"x": pa.array(list(ROWS[[0, 0, 0, 1]])), "\0subject": pa.array(["a", "a", "b", None])}
    predictor.predict(rows)
    counted = predictor.drain().stages
    assert [counted[stage].computed for stage in counted] == [3, 3]
    predictor.predict(rows)
    assert predictor.drain().stages["output"].hits == 3


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["", "a", "b", "ü"])), min_size=1),
        min_size=1,
        max_size=4,
    )
)
def test_whoever_the_rows_are_of_their_outputs_have_the_bits_of_a_run_without_a_cache(
    model, batches
):
    cache = Cache(CacheConfig.checked(url="memory://", namespace="p", subject="user"))
    for batch in batches:
        rows = {"x": ROWS[[row for row, _ in batch]], "user": [user for _, user in batch]}
        without = model.predict({"x": rows["x"]})
        for name, got in model.predict(rows, cache=cache).items():
            assert got.tobytes() == without[name].tobytes()


def test_nothing_is_remembered_without_a_subject(model, cache):
    with pytest.raises(SchemaError, match="'user'"):
        model.predict({"x": ROWS}, cache=cache)
    with pytest.raises(SchemaError, match=r"kvspark\.score"):
        Predictor(compiled_plan(model.bundle), cache=cache).predict({"x": pa.array(list(ROWS))})
    with pytest.raises(SchemaError, match="whole number"):
        model.predict({"x": ROWS, "user": [0.5] * 6}, cache=cache)


def test_a_number_and_its_text_are_one_subject(model, cache):
    numbers = {"x": ROWS, "user": [17] * 6}
    model.predict(numbers, cache=cache)
    predictor = Predictor(compiled_plan(model.bundle), cache=cache)
    predictor.predict({"x": pa.array(list(ROWS)), "\0subject": pa.array(["17"] * 6)})
    assert predictor.drain().stages["output"].hits == 6
