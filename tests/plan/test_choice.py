"""The plan has the least expected seconds, over the whole graph; and the forecast is a run's arithmetic."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.errors import UsageError
from kvspark.model.stage.stage import Source, Stage
from kvspark.plan import choice
from kvspark.plan.choice import choose_cached
from kvspark.plan.costs import Expectation, Night, StageCost, StageRows
from kvspark.plan.forecast import expected_s, forecast, total_s
from kvspark.plan.table import PlanTable, plan_table
from kvspark.spec import TensorSpec

US = 1e-6


def stage(name: str, *upstream: str) -> Stage:
    tensor = TensorSpec("t", "float32", (4,))
    sources = tuple(Source(tensor, each) for each in upstream) or (Source(tensor),)
    return Stage(name, "graph", ("x",), sources, (tensor,), b"", ())


def night(
    stages: dict[str, tuple[str, ...]],
    compute_us: dict[str, float],
    *,
    rows: float = 1_000,
    hits: float = 0.0,
    **distinct: float,
) -> Night:
    made = tuple(stage(name, *upstream) for name, upstream in stages.items())
    return Night(
        made,
        {
            name: StageCost(us * US, 2 * US, 1 * US, 4 * US, entry_bytes=100)
            for name, us in compute_us.items()
        },
        {n: StageRows(distinct.get(n, rows), distinct.get(n, rows), hits) for n in stages},
    )


def whole(names: Collection[str]) -> dict[str, float]:
    """All rows of the stages."""
    return dict.fromkeys(names, 1.0)


ALL = whole(("trunk", "head"))
CHAIN: dict[str, tuple[str, ...]] = {"trunk": (), "head": ("trunk",)}
PAIR: dict[str, tuple[str, ...]] = {"user": (), "item": (), "head": ("user", "item")}


def test_what_costs_less_than_a_look_up_is_not_cached() -> None:
    assert choose_cached(night(CHAIN, {"trunk": 1, "head": 0.5}), Expectation(), {}) == frozenset()


def test_a_trunk_behind_a_cached_output_is_kept_for_the_day_the_head_is_trained_anew() -> None:
    tonight = night(CHAIN, {"trunk": 5_000, "head": 50})
    assert choose_cached(tonight, Expectation(), {}) == {"trunk", "head"}
    assert choose_cached(tonight, Expectation(retrained=0.0), {}) == {"head"}


def test_the_head_of_pairs_is_computed_and_its_towers_are_fetched() -> None:
    tonight = night(PAIR, {"user": 500, "item": 500, "head": 1}, rows=100_000, user=1_000, item=100)
    assert choose_cached(tonight, Expectation(), {}) == {"user", "item"}


def test_pinned_stages_are_as_they_are_pinned() -> None:
    tonight = night(CHAIN, {"trunk": 5_000, "head": 1})
    assert choose_cached(tonight, Expectation(), {"head": False, "trunk": False}) == frozenset()
    cheap = night(CHAIN, {"trunk": 1, "head": 0.5})
    assert choose_cached(cheap, Expectation(), {"head": True}) == {"head"}


def test_what_never_comes_again_is_not_cached() -> None:
    tonight = night(CHAIN, {"trunk": 5_000, "head": 1})
    assert choose_cached(tonight, Expectation(again=0.0), {}) == frozenset()


@pytest.mark.parametrize("hits", [0.0, 0.5, 0.99, 1.0])
def test_rows_and_seconds_of_a_chain_add_up(hits: float) -> None:
    tonight = night(CHAIN, {"trunk": 100, "head": 10}, hits=hits)
    made = forecast(tonight, ALL)
    left = 1_000 * (1 - hits)
    assert made["head"].asked == 1_000
    assert made["head"].computed == pytest.approx(left)
    # What the head has not found, the trunk has not either: both were computed the same night.
    assert made["trunk"].computed == pytest.approx(left)
    assert made["head"].seconds == pytest.approx(
        (1_000 * 2 + 1_000 * hits * 1 + left * (4 + 10)) * US
    )
    alone = forecast(tonight, {})
    assert total_s(alone) == pytest.approx(1_000 * 110 * US)


def test_a_head_that_is_made_anew_asks_the_trunk_for_every_row() -> None:
    tonight = night(CHAIN, {"trunk": 100, "head": 10})
    rows = {"trunk": StageRows(1_000, 1_000, 0.9), "head": StageRows(1_000, 1_000, 0.0)}
    made = forecast(Night(tonight.stages, tonight.costs, rows), ALL)
    assert made["trunk"].asked == 1_000
    assert made["trunk"].computed == pytest.approx(100)


COSTS = st.floats(0.1, 1e4)


@given(
    st.lists(st.tuples(COSTS, COSTS, COSTS, st.floats(0, 1)), min_size=1, max_size=5),
    st.booleans(),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 3),
)
def test_no_set_of_stages_is_expected_to_take_less(
    parts: list[tuple[float, float, float, float]],
    is_chain: bool,
    again: float,
    retrained: float,
    runs: int,
) -> None:
    names = [f"s{place}" for place in range(len(parts))]
    stages = [
        stage(name, *(names[place - 1 : place] if is_chain else names[:place][-2:]))
        for place, name in enumerate(names)
    ]
    costs = {
        name: StageCost(compute * US, look * US, look / 3 * US, insert * US, 64)
        for name, (compute, look, insert, _) in zip(names, parts, strict=True)
    }
    rows = {n: StageRows(1_000, 800, part[3]) for n, part in zip(names, parts, strict=True)}
    tonight, expect = Night(stages, costs, rows), Expectation(again, retrained, runs)
    chosen = choose_cached(tonight, expect, {})
    least = expected_s(tonight, whole(chosen), expect)
    for size in range(len(names) + 1):
        for other in combinations(names, size):
            assert least <= expected_s(tonight, whole(other), expect)


def test_of_many_stages_a_set_is_found_that_no_single_change_makes_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"s{place}" for place in range(8)]
    stages = {name: tuple(names[place - 1 : place]) for place, name in enumerate(names)}
    costs = {name: 3.0 * 4 ** (place % 5) for place, name in enumerate(names)}
    tonight, expect = night(stages, costs, hits=0.3), Expectation()
    best = choose_cached(tonight, expect, {})
    monkeypatch.setattr(choice, "MOST_SETS", 3)
    found = choose_cached(tonight, expect, {})
    found_s = expected_s(tonight, whole(found), expect)
    assert all(found_s <= expected_s(tonight, whole(found ^ {name}), expect) for name in names)
    assert found_s <= 1.05 * expected_s(tonight, whole(best), expect)


def test_the_table_says_why_with_the_two_numbers_that_decide() -> None:
    tonight = night(CHAIN, {"trunk": 1, "head": 0.5})
    table = plan_table(tonight, {}, Expectation(), rows=1_000, workers=2)
    assert [each.why for each in table.stages] == [
        "fetching costs 3.0 us, computing 1.0 us",
        "fetching costs 3.0 us, computing 1.5 us",
    ]
    assert [each.break_even for each in table.stages] == [None, None]
    assert table.with_s == table.without_s == pytest.approx(1_000 * 1.5 * US / 2)
    assert table.store_bytes == 0


def test_seconds_are_told_by_the_hits_that_are_likely_and_the_choice_is_made_by_those_that_are_sure() -> (
    None
):
    rows = StageRows(1_000, 1_000, hits=0.9, likely_hits=0.99)
    tonight = Night((stage("only"),), {"only": StageCost(1.0, entry_bytes=100)}, {"only": rows})
    table = plan_table(tonight, {"only": 1.0}, Expectation(), rows=1_000, workers=1)
    assert table.with_s == pytest.approx(10.0)
    assert table.computes
    found = replace(tonight, rows={"only": replace(rows, likely_hits=0.998)})
    assert not plan_table(found, {"only": 1.0}, Expectation(), rows=1_000, workers=1).computes
    assert table.stages[0].hit_rate == pytest.approx(0.99)
    assert expected_s(tonight, {"only": 1.0}, Expectation(runs=0)) == pytest.approx(100.0)


def test_a_stage_that_would_be_fetched_for_less_says_why_it_is_not() -> None:
    tonight = night(CHAIN, {"trunk": 1, "head": 4}, hits=0.1)
    expect = Expectation(again=0.75)
    head = plan_table(tonight, {}, expect, rows=1_000, workers=2).stages[1]
    assert head.why == (
        "fetching costs 3.0 us, computing 5.0 us: 10% hits now and 75% the next time save less than looking up and "
        "inserting cost"
    )


def test_times_below_what_a_clock_tells_are_told_as_such() -> None:
    free = StageCost(0.01 * US, lookup_s=0.02 * US, entry_bytes=100)
    tonight = Night((stage("only"),), {"only": free}, {"only": StageRows(10, 10)})
    table = plan_table(tonight, {}, Expectation(), rows=10, workers=1)
    assert table.stages[0].why == "fetching costs < 0.1 us, computing < 0.1 us"


def test_the_table_says_what_decides_where_no_number_does() -> None:
    tonight = night(CHAIN, {"trunk": 100, "head": 1}, hits=0.9)
    shares = {"trunk": 0.0, "head": 0.001}
    by = {"head": "as plan.stages says"}
    table = plan_table(tonight, shares, Expectation(), rows=1_000, workers=2, deciders=by)
    trunk, head = table.stages
    assert (trunk.verdict, head.verdict) == ("not cached", "less than 1 % of rows cached")
    assert (
        trunk.why
        == "fetching costs 3.0 us, computing 100 us; the cache's budget has no room for it"
    )
    assert head.why == "fetching costs 3.0 us, computing 101 us; as plan.stages says"


def test_a_run_at_the_break_even_hit_rate_takes_as_long_as_without_the_stage() -> None:
    tonight = night(CHAIN, {"trunk": 100, "head": 10})
    table = plan_table(tonight, {"head": 1.0}, Expectation(), rows=1_000, workers=2)
    even = table.stages[1].break_even
    assert even is not None
    at_even = night(CHAIN, {"trunk": 100, "head": 10}, hits=even)
    assert total_s(forecast(at_even, {"head": 1.0})) == pytest.approx(
        total_s(forecast(at_even, {}))
    )


def test_a_table_is_read_as_it_was_written() -> None:
    tonight = night(CHAIN, {"trunk": 5_000, "head": 1}, hits=0.4)
    table = plan_table(tonight, {"trunk": 0.4, "head": 1.0}, Expectation(), rows=1_000, workers=2)
    assert PlanTable.from_json(table.to_json()) == table
    assert table.cached == {"trunk": True, "head": True}
    assert [each.verdict for each in table.stages] == ["40 % of rows cached", "cached"]


@pytest.mark.parametrize("wrong", [{"again": 1.1}, {"retrained": -0.1}, {"runs": -1}])
def test_an_expectation_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Expectation(**wrong)  # type: ignore[arg-type]
