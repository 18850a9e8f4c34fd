"""Where the store has room for a part of the rows, it goes to what saves most seconds for a byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.stage.admission import FILLED, entry_memory_bytes
from kvspark.model.stage.stage import Source, Stage
from kvspark.plan.costs import Expectation, Night, StageCost, StageRows
from kvspark.plan.shares import shares_within
from kvspark.spec import TensorSpec

US = 1e-6
ROWS = 1_000
TRUNK_BYTES, HEAD_BYTES = 1_536, 16


def stage(name: str, *upstream: str) -> Stage:
    tensor = TensorSpec("t", "float32", (4,))
    sources = tuple(Source(tensor, each) for each in upstream) or (Source(tensor),)
    return Stage(name, "graph", ("x",), sources, (tensor,), b"", ())


NIGHT = Night(
    (stage("trunk"), stage("head", "trunk")),
    {
        "trunk": StageCost(5_000 * US, 3 * US, 2 * US, 8 * US, entry_bytes=TRUNK_BYTES),
        "head": StageCost(20 * US, 2 * US, 1 * US, 4 * US, entry_bytes=HEAD_BYTES),
    },
    {name: StageRows(ROWS, ROWS, 0.0) for name in ("trunk", "head")},
)
BOTH = ("trunk", "head")
HEAD_NEEDS = ROWS * entry_memory_bytes(HEAD_BYTES)
TRUNK_NEEDS = ROWS * entry_memory_bytes(TRUNK_BYTES)


def shares(budget_bytes: float, **given_shares: float) -> dict[str, float]:
    return shares_within(
        NIGHT, BOTH, Expectation(), budget_bytes=int(budget_bytes), given=given_shares
    )


def test_small_outputs_come_before_large_results_of_the_trunk() -> None:
    found = shares((HEAD_NEEDS + TRUNK_NEEDS / 2) / FILLED)
    assert found["head"] == 1
    assert found["trunk"] == pytest.approx(0.5, rel=0.01)


def test_what_has_no_room_is_not_cached() -> None:
    assert shares(HEAD_NEEDS / FILLED / 2) == {"head": pytest.approx(0.5, rel=0.01), "trunk": 0}


def test_a_share_that_is_given_stays_and_leaves_less_for_the_others() -> None:
    found = shares((TRUNK_NEEDS / 2 + HEAD_NEEDS / 2) / FILLED, trunk=0.5)
    assert found == {"trunk": 0.5, "head": pytest.approx(0.5, rel=0.02)}


@given(st.integers(0, 4 * (HEAD_NEEDS + TRUNK_NEEDS)))
def test_the_entries_of_a_night_fit(budget_bytes: int) -> None:
    found = shares(budget_bytes)
    assert all(0 <= share <= 1 for share in found.values())
    taken = found["head"] * HEAD_NEEDS + found["trunk"] * TRUNK_NEEDS
    assert taken <= FILLED * budget_bytes + 1
    if budget_bytes * FILLED >= HEAD_NEEDS + TRUNK_NEEDS:
        assert found == {"head": 1, "trunk": 1}
