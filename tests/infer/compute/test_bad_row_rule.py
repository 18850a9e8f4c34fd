"""The rows on which a stage raises are found by halving."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.errors import ModelError, RowError
from kvspark.infer.compute.bad_row_rule import Refuse, SetAside
from kvspark.infer.rows.bad_rows import BadRow, Indices


class Calls:
    """A stage that raises on some rows, and knows what it was called with."""

    def __init__(self, bad: set[int], error: type[Exception] = IndexError) -> None:
        self.bad = bad
        self.error = error
        self.made: list[list[int]] = []

    def __call__(self, rows: Indices) -> Sequence[np.ndarray]:
        self.made.append(rows.tolist())
        if self.bad & set(rows.tolist()):
            raise self.error("SECRET")
        return (rows * 10,)


def set_aside(
    calls: Callable[[Indices], Any], rows: int
) -> tuple[dict[int, int], dict[int, BadRow]]:
    """What each good row gave, and the bad rows."""
    bad: dict[int, BadRow] = {}
    given = {}
    for places, (made,) in SetAside().results("head", np.arange(rows), calls, bad):
        for place, value in zip(places.tolist(), list(made), strict=True):
            assert place not in given
            given[place] = value
    return given, bad


@given(bad=st.sets(st.integers(0, 31)), rows=st.integers(1, 32))
def test_any_set_of_bad_rows_is_found_and_every_other_row_is_computed_once(
    bad: set[int], rows: int
) -> None:
    bad &= set(range(rows))
    calls = Calls(bad)
    given, found = set_aside(calls, rows)
    assert set(found) == bad
    assert given == {row: row * 10 for row in range(rows) if row not in bad}
    assert len(calls.made) <= max(1, 2 * rows - 1)
    assert all([row] in calls.made for row in bad)  # none is bad that has not failed alone


@pytest.mark.parametrize("row", range(32))
def test_one_bad_row_costs_two_calls_a_halving(row: int) -> None:
    calls = Calls({row})
    set_aside(calls, 32)
    assert len(calls.made) - 1 <= 2 * 5
    refused = Calls({row})
    with pytest.raises(RowError, match=f"row {row} of the batch"):
        list(Refuse().results("head", np.arange(32), refused, {}))
    # Who is found by elimination is called once more, alone: only then there are words for it.
    assert len(refused.made) - 1 <= 5 + (row % 2)


def test_a_row_that_is_named_costs_no_halving() -> None:
    def read(rows: Indices) -> Sequence[np.ndarray]:
        made.append(len(rows))
        for place, row in enumerate(rows.tolist()):
            if row in (3, 9):
                raise RowError("the sound is short", place)
        return (rows,)

    made: list[int] = []
    given, bad = set_aside(read, 16)
    assert (sorted(bad), len(given)) == ([3, 9], 14)
    assert made == [16, 3, 12, 5, 6]


@pytest.mark.parametrize(
    "error",
    [MemoryError, OSError, ModuleNotFoundError, ModelError],
    ids=["memory", "file", "module", "model"],
)
@pytest.mark.parametrize("rule", [Refuse(), SetAside()], ids=["refuse", "set-aside"])
def test_trouble_that_is_no_rows_own_stops_everything(
    rule: Refuse | SetAside, error: type[Exception]
) -> None:
    calls = Calls({4}, error)
    with pytest.raises(error, match="SECRET"):
        list(rule.results("head", np.arange(32), calls, {}))
    assert len(calls.made) == 1


@pytest.mark.parametrize(
    "text",
    ["DefaultCPUAllocator: can't allocate memory", "CUDA out of memory.", "CUDA error: assert"],
)
def test_a_full_memory_is_no_bad_row(text: str) -> None:
    def full(rows: Indices) -> Sequence[np.ndarray]:
        raise RuntimeError(text)

    with pytest.raises(RuntimeError, match=text):
        set_aside(full, 8)


def test_what_a_stage_raised_is_told_by_class_and_place_and_never_quoted() -> None:
    _, bad = set_aside(Calls({0}), 2)
    assert (bad[0].stage, bad[0].error) == ("head", "IndexError")
    assert bad[0].message.startswith("it raised IndexError at compute/test_bad_row_rule.py:")
    error = bad[0].refused(7)
    assert "SECRET" not in f"{bad[0]}{error}{error.__cause__}"
    assert pickle.loads(pickle.dumps(error)).kind == "IndexError"
