"""How many rows a run asks of each stage, and how many of them the store has: by a sample of its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, sqrt

import numpy as np

from kvspark.cache.stage.admission import deciding
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.infer.resolve.resolve import Resolver
from kvspark.infer.rows.columns import Column
from kvspark.infer.rows.distinct import distinct
from kvspark.infer.rows.subject import own_columns
from kvspark.model.stage.stage import Stage
from kvspark.plan.costs import StageRows

SURE = 1.96
"""Standard deviations: of a hundred samples two or three say that the store has more than it has."""


def stage_rows(
    compiled: CompiledPlan,
    columns: Mapping[str, Column],
    *,
    rows: int,
    workers: int,
    reading: Resolver | None,
) -> dict[str, StageRows]:
    """The rows of each stage in a run of `rows`, of which `columns` holds a sample.

    `reading` looks the sample up; without it nothing is expected to be found.
    """
    found: dict[str, StageRows] = {}
    every = {spec.name for spec in compiled.bundle.inputs}
    for name, each in compiled.stages.items():
        own = list(own_columns(each.stage, columns).values())
        sampled = len(own[0])
        whole = estimated_distinct(len(distinct(own)), sampled, rows)
        window = min(rows, compiled.plan.max_pending_rows)
        asked = rows * expected_distinct(whole, window) / max(1, window)
        if set(each.stage.inputs) < every and _fits_memo(each.stage, compiled, whole):
            asked = min(asked, workers * whole)
        hits, stored = 0.0, 1.0
        if reading is not None and name in reading.entries:
            hits, stored = _hits(reading, each.stage, columns)
        found[name] = StageRows(max(asked, whole), whole, hits, stored)
    return found


def estimated_distinct(seen: int, sampled: int, rows: int) -> float:
    """How many distinct values `rows` rows have, of which a sample of `sampled` has `seen`; all equally frequent.

    A sample without two equal rows says nothing: then all rows are taken to be distinct.
    """
    if seen >= sampled or sampled >= rows:
        return float(rows if sampled < rows else seen)
    low, high = float(seen), float(rows)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expected_distinct(middle, sampled) < seen else (low, middle)
    return high


def expected_distinct(values: float, sampled: int) -> float:
    """How many of `values` values, all equally frequent, a sample of `sampled` rows has."""
    return values * (1 - exp(-sampled / values)) if values > 0 else 0.0


def at_least(hits: int, asked: int) -> float:
    """The share of hits that is all but sure if `hits` of `asked` were found: the lower end of Wilson's interval.

    Source: E. B. Wilson, Probable inference, 1927.
    """
    if not asked:
        return 0.0
    share, z2 = hits / asked, SURE**2
    spread = SURE * sqrt(share * (1 - share) / asked + z2 / (4 * asked**2))
    return max(0.0, (share + z2 / (2 * asked) - spread) / (1 + z2 / asked))


def _hits(reading: Resolver, stage: Stage, columns: Mapping[str, Column]) -> tuple[float, float]:
    """The share of rows that the store has, and the share that they were chosen from by their digests."""
    keyed = reading.keyed(stage, columns)
    found = reading.ask(stage, keyed, {}).found
    hits = at_least(int(found.sum()), len(found))
    return hits, _chosen_from([keyed.keys[i] for i in np.flatnonzero(found)])


def _chosen_from(digests: Sequence[bytes]) -> float:
    """The share under which `digests` were stored: of n numbers up to it the largest is n / (n + 1) of it, on average."""
    if not digests:
        return 1.0
    return min(1.0, float(deciding(digests).max()) * (len(digests) + 1) / len(digests))


def _fits_memo(stage: Stage, compiled: CompiledPlan, values: float) -> bool:
    size = stage.bytes_per_row
    return size is not None and values * size <= compiled.plan.memo_bytes
