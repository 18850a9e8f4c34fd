"""Which stages are cached: the set with the least expected seconds, over the whole graph."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import combinations

from kvspark.plan.costs import Expectation, Night
from kvspark.plan.forecast import expected_s

MOST_SETS = 12
"""Up to so many free stages all sets are tried, 4,096; of more, sets that differ by one stage."""


def choose_cached(
    night: Night,
    expect: Expectation,
    pinned: Mapping[str, bool],
    shares: Mapping[str, float] | None = None,
) -> frozenset[str]:
    """The names of the stages to cache; those in `pinned` are as they say.

    Of a stage in `shares` so many rows are cached, if it is; of others all.

    Guarantees: of two sets that take as long, the smaller one.
    """

    def seconds(cached: frozenset[str]) -> float:
        given = shares or {}
        return expected_s(night, {name: given.get(name, 1.0) for name in cached}, expect)

    always = frozenset(name for name, cached in pinned.items() if cached)
    free = [
        stage.name
        for stage in night.stages
        if stage.name not in pinned and night.costs[stage.name].entry_bytes is not None
    ]
    if len(free) <= MOST_SETS:
        return min((always | chosen for chosen in _subsets(free)), key=seconds)
    return _descended(seconds, always, free)


def _subsets(names: Collection[str]) -> Iterator[frozenset[str]]:
    """All sets of `names`, small ones first."""
    for size in range(len(names) + 1):
        yield from map(frozenset, combinations(names, size))


def _descended(
    expected: Callable[[frozenset[str]], float], always: frozenset[str], free: Collection[str]
) -> frozenset[str]:
    """The set from which no single stage less or more takes less time, from none and from all of them."""
    ends = []
    for start in (always, always | frozenset(free)):
        cached, seconds = start, expected(start)
        while True:
            others = [cached ^ {name} for name in free]
            best = min(others, key=expected)
            best_s = expected(best)
            if best_s >= seconds:
                break
            cached, seconds = best, best_s
        ends.append((seconds, cached))
    return min(ends, key=lambda end: end[0])[1]
