"""The rows of a call follow from the work of a row, by a rule that is the same on every machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.model.stage.rows_of_call import Work, rows_of_call
from kvspark.spec import ROWS_UNIT

MLP = Work(operations=10_496, moved_bytes=2_120, widest_bytes=512, operators=5)
"""Of 16-64-64-2: three linear layers, two ReLUs."""

works = st.builds(
    Work,
    operations=st.floats(0, 1e12),
    moved_bytes=st.floats(0, 1e9),
    widest_bytes=st.floats(0, 1e8),
    operators=st.integers(1, 2000),
)


def test_a_small_mlp_has_1024_rows_a_call_and_an_image_network_32() -> None:
    assert rows_of_call(MLP) == 1024
    network = Work(operations=8e8, moved_bytes=2e7, widest_bytes=3e6, operators=240)
    assert rows_of_call(network) == ROWS_UNIT


def test_rows_that_are_wide_fill_the_cache_of_a_core_and_no_more() -> None:
    wide = replace(MLP, widest_bytes=4_096)
    assert rows_of_call(wide) * wide.widest_bytes == 1 << 20


@given(works)
def test_rows_are_a_power_of_two_that_leaves_no_remainder(work: Work) -> None:
    rows = rows_of_call(work)
    assert rows in (32, 64, 128, 256, 512, 1024)


@given(works, st.sampled_from(["operations", "moved_bytes", "widest_bytes"]))
def test_a_row_with_more_work_never_gets_more_company(work: Work, field: str) -> None:
    more = replace(work, **{field: 2 * getattr(work, field) + 1})
    assert rows_of_call(more) <= rows_of_call(work)


@pytest.mark.parametrize("operators", [1, 20, 400])
def test_calling_takes_a_twentieth_of_a_call_where_memory_lets_it(operators: int) -> None:
    work = Work(operations=2_000_000, moved_bytes=0, widest_bytes=0, operators=operators)
    rows = rows_of_call(work)
    overhead_s = 20e-6 + operators * 3e-6
    assert rows == 1024 or overhead_s <= 0.05 * rows * 1e-4
