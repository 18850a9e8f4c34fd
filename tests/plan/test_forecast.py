"""What a run is expected to look up, find, compute and insert follows the shares of its stages."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.stage.admission import entry_memory_bytes
from kvspark.plan.choice import choose_cached
from kvspark.plan.costs import Expectation, Night, StageRows
from kvspark.plan.forecast import expected_s, forecast, hit_rate, total_s
from kvspark.plan.table import plan_table
from tests.plan.test_choice import CHAIN, US, night

ROWS = 200_000


def of_store(tonight: Night, hits: float, stored: float) -> Night:
    rows = {n: replace(each, hits=hits, stored=stored) for n, each in tonight.rows.items()}
    return replace(tonight, rows=rows)


@pytest.mark.parametrize("share", [0.25, 0.6, 1.0])
def test_rows_that_are_not_admitted_are_neither_looked_up_nor_inserted(share: float) -> None:
    tonight = night({"only": ()}, {"only": 100}, rows=ROWS)
    made = forecast(tonight, {"only": share})["only"]
    assert made.looked_up == pytest.approx(share * ROWS)
    assert made.inserted == pytest.approx(share * ROWS)
    assert made.found == pytest.approx(0)
    assert made.computed == ROWS
    assert made.seconds == pytest.approx((share * ROWS * (2 + 4) + ROWS * 100) * US)
    table = plan_table(tonight, {"only": share}, Expectation(), rows=ROWS, workers=1)
    assert table.store_bytes == pytest.approx(share * ROWS * entry_memory_bytes(100))
    (planned,) = table.stages
    assert (planned.lookups, planned.inserts) == (made.looked_up, made.inserted)


def played(shares: dict[str, float], before: float, stored: float) -> dict[str, dict[str, float]]:
    """Counts of a run of a chain that is played row by row, whose store a run before filled with `stored` of the rows."""
    rng = np.random.default_rng(4)
    was_before = rng.random(ROWS) < before
    wanted = np.ones(ROWS, dtype=bool)
    counts = {}
    for name in ("head", "trunk"):
        place = rng.random(ROWS)  # each stage has digests of its own
        is_there = was_before & (place < stored)
        admitted = wanted & (place < shares[name])
        found = admitted & is_there
        missing = wanted & ~found
        counts[name] = {
            "looked_up": float(admitted.sum()),
            "found": float(found.sum()),
            "computed": float(missing.sum()),
            "inserted": float((admitted & ~found).sum()),
        }
        wanted = missing
    return counts


@pytest.mark.parametrize("stored", [0.3, 1.0])
@pytest.mark.parametrize("shares", [(0.5, 0.5), (1.0, 0.2), (0.2, 1.0)])
def test_the_forecast_is_what_a_run_that_is_played_row_by_row_does(
    shares: tuple[float, float], stored: float
) -> None:
    own = dict(zip(("trunk", "head"), shares, strict=True))
    before = 0.8
    tonight = of_store(night(CHAIN, {"trunk": 100, "head": 10}, rows=ROWS), before * stored, stored)
    made = forecast(tonight, own)
    for name, counts in played(own, before, stored).items():
        for count, number in counts.items():
            assert getattr(made[name], count) == pytest.approx(number, abs=0.01 * ROWS), (
                name,
                count,
            )


@given(
    st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0, 1), st.floats(0.01, 1), st.floats(0.1, 1)
)
def test_no_row_is_lost_and_none_is_made_up(
    trunk: float, head: float, before: float, stored: float, distinct: float
) -> None:
    rows = StageRows(1_000, 1_000 * distinct, before * stored, stored)
    tonight = replace(night(CHAIN, {"trunk": 100, "head": 10}), rows=dict.fromkeys(CHAIN, rows))
    for made in forecast(tonight, {"trunk": trunk, "head": head}).values():
        assert made.found + made.computed == pytest.approx(made.asked)
        assert -1e-6 <= made.found <= made.looked_up + 1e-6
        assert -1e-6 <= made.inserted <= made.computed + 1e-6


def test_of_a_store_that_was_filled_with_half_of_the_rows_half_is_expected_at_most() -> None:
    rows = StageRows(1_000, 1_000, hits=0.4, stored=0.5)
    assert hit_rate(rows, 1.0) == pytest.approx(0.4)
    assert hit_rate(rows, 0.5) == pytest.approx(0.4)
    assert hit_rate(rows, 0.25) == pytest.approx(0.2)


def test_the_next_run_finds_the_share_that_this_one_stores() -> None:
    tonight = night({"only": ()}, {"only": 100}, rows=ROWS)
    tomorrow = of_store(tonight, 0.9, 1.0)
    same = Expectation(again=0.9, retrained=0.0)
    for share in (0.3, 1.0):
        own = {"only": share}
        assert expected_s(tonight, own, same) == pytest.approx(
            total_s(forecast(tonight, own)) + total_s(forecast(tomorrow, own))
        )
        assert forecast(tomorrow, own)["only"].found == pytest.approx(0.9 * share * ROWS)


def test_a_share_that_the_conf_gives_counts_when_stages_are_chosen() -> None:
    """At a hundredth of its outputs the head spares the trunk nothing: the trunk pays for itself."""
    tonight, same = night(CHAIN, {"trunk": 500, "head": 5}), Expectation(retrained=0.0)
    assert choose_cached(tonight, same, {}) == {"head"}
    assert choose_cached(tonight, same, {}, {"head": 0.01}) >= {"trunk"}
