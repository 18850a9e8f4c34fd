"""How many rows a stage is asked for, and how many of them are found: estimates from a sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.infer.planning.distinct_values import estimated_distinct, expected_distinct
from kvspark.infer.planning.stage_rows import at_least, likely


@given(st.integers(2, 100_000), st.integers(20, 400))
def test_values_of_a_sample_are_estimated_as_they_are(values: int, sampled: int) -> None:
    """Within a quarter, where at least forty pairs of equal rows are expected."""
    rows = 1_000_000
    drawn = np.random.default_rng(values).integers(0, values, sampled)
    seen = len(set(drawn.tolist()))
    found = estimated_distinct(seen, sampled, rows)
    if seen == sampled:
        assert found == rows
    else:
        assert seen <= found <= rows
        assert expected_distinct(found, sampled) == pytest.approx(seen, rel=1e-3)
    if values * 80 < sampled * sampled:
        assert found == pytest.approx(values, rel=0.5)


def test_a_sample_of_all_rows_is_no_estimate() -> None:
    assert estimated_distinct(40, 64, 64) == 40
    assert estimated_distinct(64, 64, 64) == 64


def test_a_sample_without_equal_rows_says_that_all_are_distinct() -> None:
    assert estimated_distinct(64, 64, 1_000_000) == 1_000_000


@given(st.integers(0, 500), st.integers(1, 500))
def test_a_share_of_hits_is_never_promised_above_what_was_found(hits: int, asked: int) -> None:
    hits = min(hits, asked)
    low = at_least(hits, asked)
    assert 0 <= low <= hits / asked
    if hits > 0:
        assert at_least(hits * 10, asked * 10) > low  # more of the same is surer


def test_the_share_that_is_likely_is_above_the_one_that_is_sure_and_never_all() -> None:
    assert at_least(256, 256) < 0.99 < likely(256, 256) < 1
    assert at_least(128, 256) < likely(128, 256) == 0.5
    assert likely(0, 256) == 0


def test_wilsons_interval_is_the_published_one() -> None:
    """E. B. Wilson (1927); 15 of 20 as R's prop.test without correction prints it: 0.531 to 0.888."""
    assert at_least(15, 20) == pytest.approx(0.531, abs=5e-4)
    assert at_least(0, 0) == 0
