"""How many values a table has, by a few rows from eight places of it: tables that are mixed, sorted, or change as they go on."""

from __future__ import annotations

import numpy as np
import pytest

from kvspark.infer.planning.distinct_values import distinct_values

ROWS, PLACES, SIZE, WINDOW = 300_000, 8, 512, 4_096


def sampled(table: np.ndarray, places: int = PLACES) -> tuple[np.ndarray, np.ndarray]:
    starts = np.arange(places) * len(table) // places
    rows = np.concatenate([np.arange(start, start + PLACES * SIZE // places) for start in starts])
    return table[rows], np.repeat(np.arange(places), PLACES * SIZE // places)


def truth(table: np.ndarray) -> tuple[float, float]:
    """Values of all rows, and of a window on average."""
    windows = [table[start : start + WINDOW] for start in range(0, len(table) - WINDOW, WINDOW)]
    return len(np.unique(table)), float(np.mean([len(np.unique(each)) for each in windows]))


def tables() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        "mixed": rng.integers(0, 10_000, ROWS),
        "few": rng.integers(0, 20, ROWS),
        "distinct": np.arange(ROWS),
        "sorted": np.arange(ROWS) // 30,
        "again and again": np.arange(ROWS) % 1_000,
        "42 % repeated": rng.integers(0, 174_000, ROWS),
        "drifting": np.arange(ROWS) * 6_000 // ROWS + rng.integers(0, 6_000, ROWS),
    }


@pytest.mark.parametrize("name", tables())
def test_the_values_of_a_table_are_estimated_within_a_quarter(name: str) -> None:
    table = tables()[name]
    found = distinct_values(*sampled(table), ROWS)
    whole, window = truth(table)
    assert found.whole == pytest.approx(whole, rel=0.25)
    assert found.among(WINDOW) == pytest.approx(window, rel=0.25)


def test_as_many_first_rows_say_something_else_of_a_sorted_table() -> None:
    table = tables()["sorted"]
    assert distinct_values(*sampled(table, places=1), ROWS).whole < 0.1 * truth(table)[0]


def test_values_that_are_not_alike_frequent_are_not_taken_for_ones_that_come_and_go() -> None:
    table = np.random.default_rng(1).zipf(1.3, ROWS) % 100_000
    found = distinct_values(*sampled(table), ROWS)
    assert found.new == 0
    assert found.among(WINDOW) == pytest.approx(truth(table)[1], rel=0.25)


def test_a_few_rows_at_each_place_are_one_sample() -> None:
    table = np.random.default_rng(1).integers(0, 10, ROWS)
    places = np.repeat(np.arange(8), 4)
    assert distinct_values(table[:32], places, ROWS).whole == pytest.approx(10, rel=0.25)
