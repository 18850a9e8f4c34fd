"""Which share of each stage's rows is remembered, where the store has room for a part of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from kvspark.cache.stage.admission import FILLED, entry_memory_bytes
from kvspark.plan.costs import Expectation, Night
from kvspark.plan.forecast import expected_s


def shares_within(
    night: Night,
    cached: Collection[str],
    expect: Expectation,
    *,
    budget_bytes: int,
    given: Mapping[str, float],
) -> dict[str, float]:
    """The share of each stage in `cached`, 0 to 1, such that the entries of `night` fit into `budget_bytes`.

    The stage that saves most seconds for a byte comes first and gets all that it needs, then the next one, of
    those that are left; so small outputs come before the large results of a trunk. Stages in `given` have their
    share whatever it saves, and leave less for the others.
    """
    needed = {name: _needed_bytes(night, name) for name in cached}
    shares = {name: share for name, share in given.items() if name in cached}
    left_bytes = FILLED * budget_bytes - sum(shares[name] * needed[name] for name in shares)
    rest = [
        stage.name for stage in night.stages if stage.name in cached and stage.name not in shares
    ]
    while rest:
        have_s = expected_s(night, shares, expect)
        saved = {
            name: (have_s - expected_s(night, {**shares, name: 1.0}, expect)) / needed[name]
            for name in rest
        }
        best = max(rest, key=lambda name: saved[name])
        rest.remove(best)
        shares[best] = min(1.0, max(0.0, left_bytes / needed[best]))
        left_bytes -= shares[best] * needed[best]
    return shares


def _needed_bytes(night: Night, name: str) -> float:
    """Memory of the store for all rows of a stage."""
    size = entry_memory_bytes(night.costs[name].entry_bytes or 0)
    return max(1.0, night.rows[name].distinct) * size
