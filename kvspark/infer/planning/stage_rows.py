"""How many rows a run asks of each stage, and how many of them the store has: by a sample of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import sqrt

import numpy as np

from kvspark.cache.stage.admission import deciding
from kvspark.infer.planning.distinct_values import distinct_values
from kvspark.infer.planning.sampled_rows import evenly
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.infer.resolve.resolve import Resolver
from kvspark.infer.rows.bad_rows import Indices
from kvspark.infer.rows.columns import Column
from kvspark.infer.rows.distinct import distinct
from kvspark.infer.rows.subject import own_columns
from kvspark.model.stage.stage import Stage
from kvspark.plan.costs import StageRows

ASKED = 256
"""Rows of a sample that are looked up."""
SURE = 1.96
"""Standard deviations: of a hundred samples two or three say that the store has more than it has."""


def stage_rows(
    compiled: CompiledPlan,
    columns: Mapping[str, Column],
    *,
    places: Indices,
    rows: int,
    workers: int,
    reading: Resolver,
) -> dict[str, StageRows]:
    """The rows of each stage in a run of `rows`, of which `columns` holds a sample from `places`, by row.

    Of all places alike so many rows as `ASKED` says are looked up with `reading`.
    """
    found: dict[str, StageRows] = {}
    every = {spec.name for spec in compiled.bundle.inputs}
    asked_rows = evenly(len(places), ASKED)
    few = {name: column.take(asked_rows) for name, column in columns.items()}
    for name, each in compiled.stages.items():
        own = list(own_columns(each.stage, columns).values())
        values = distinct_values(distinct(own).place_of_row, places, rows)
        window = min(rows, compiled.plan.max_pending_rows)
        asked = rows * values.among(window) / max(1, window)
        if set(each.stage.inputs) < every and _fits_memo(each.stage, compiled, values.whole):
            asked = min(asked, workers * values.whole)
        seen = StageRows(max(asked, values.whole), values.whole)
        if name in reading.entries:
            seen = _with_hits(seen, reading, each.stage, few)
        found[name] = seen
    return found


def at_least(hits: int, asked: int) -> float:
    """The share of hits that is all but sure if `hits` of `asked` were found: the lower end of Wilson's interval.

    Source: E. B. Wilson, Probable inference, 1927.
    """
    if not asked:
        return 0.0
    share, z2 = hits / asked, SURE**2
    spread = SURE * sqrt(share * (1 - share) / asked + z2 / (4 * asked**2))
    return max(0.0, (share + z2 / (2 * asked) - spread) / (1 + z2 / asked))


def likely(hits: int, asked: int) -> float:
    """The share of hits that is expected if `hits` of `asked` were found: with half a row more of each kind.

    Source: H. Jeffreys, An invariant form for the prior probability in estimation problems, 1946.
    """
    return (hits + 0.5) / (asked + 1) if hits else 0.0


def _with_hits(
    rows: StageRows, reading: Resolver, stage: Stage, columns: Mapping[str, Column]
) -> StageRows:
    """`rows` with the share that the store has, and the share that those were chosen from by their digests."""
    keyed = reading.keyed(stage, columns)
    found = reading.ask(stage, keyed, {}).found
    hits, asked = int(found.sum()), len(found)
    return replace(
        rows,
        hits=at_least(hits, asked),
        likely_hits=likely(hits, asked),
        stored=_chosen_from([keyed.keys[i] for i in np.flatnonzero(found)]),
    )


def _chosen_from(digests: Sequence[bytes]) -> float:
    """The share under which `digests` were stored: of n numbers up to it the largest is n / (n + 1) of it, on average."""
    if not digests:
        return 1.0
    return min(1.0, float(deciding(digests).max()) * (len(digests) + 1) / len(digests))


def _fits_memo(stage: Stage, compiled: CompiledPlan, values: float) -> bool:
    size = stage.bytes_per_row
    return size is not None and values * size <= compiled.plan.memo_bytes
