"""The check before a run: does each stage give the same bits twice, and in any company?

A stage that does not must not be cached: its entries would depend on who asked first. What has been
checked is remembered in the cache, under the stage's own fingerprint, so a night that re-uses a
trunk does not open it only to check it again. So is how long a row took.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kvspark.cache.read_only import ReadOnly
from kvspark.errors import NotRepeatableError
from kvspark.infer.checks.stage_seconds import StageSeconds
from kvspark.infer.compute.values import Values
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.infer.resolve.resolve import Columns, Resolver
from kvspark.infer.rows.bad_rows import Indices
from kvspark.infer.rows.columns import Column, column
from kvspark.infer.rows.subject import SUBJECT, subject_column
from kvspark.model.run.device import CPU
from kvspark.model.stage.stage import Stage

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache

SAMPLE_ROWS = 64
"""Rows from which those of one length bucket are taken: enough to fill most of a micro-batch."""


@final
@dataclass(frozen=True, slots=True)
class Preflight:
    """What a preflight found: that every stage may be cached, and what its rows take."""

    checked: tuple[str, ...] = ()
    """The stages that were checked now."""
    compute_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds to compute one row of each stage in a full call, measured now or by an earlier preflight."""

    @property
    def told(self) -> str:
        """What was checked, in words."""
        names = ", ".join(self.checked)
        return f"checked {names}" if names else "all stages were checked before"


def preflight(
    compiled: CompiledPlan,
    arrays: Mapping[str, pa.Array],
    *,
    cache: Cache | None = None,
    threads: int = 1,
    device: str = CPU,
) -> Preflight:
    """What checking each stage on some rows of `arrays` shows.

    Stages that an earlier preflight has checked under the same fingerprint, on a machine with the
    same arithmetic, are left out. Reads the cache, and writes nothing but what was checked.

    Raises:
        NotRepeatableError: a stage gives other bits in another run or among other rows.
        DataError: the rows are not what the model takes.
    """
    # Whole calls are what smaller ones are held against.
    compiled = CompiledPlan.of(compiled.bundle, replace(compiled.plan, short_calls=False))
    bundle = compiled.bundle
    threads = bundle.micro_batch.threads(threads)
    reading = None if cache is None else ReadOnly(cache)
    resolver = Resolver(compiled, reading, threads=threads, device=device)
    columns: dict[str, Column] = {
        spec.name: column(arrays[spec.name][:SAMPLE_ROWS], spec) for spec in bundle.inputs
    }
    if SUBJECT in arrays:
        columns[SUBJECT] = subject_column(arrays[SUBJECT][:SAMPLE_ROWS])
    if not len(next(iter(columns.values()))):
        return Preflight()
    checked, compute_s = [], {}
    for stage in bundle.stages:
        mark = None if cache is None else StageSeconds(cache, stage, threads, device)
        known_s = None if mark is None else mark.known()
        if known_s is not None:
            compute_s[stage.name] = known_s
            continue
        if stage.is_batched:
            most_rows = bundle.shapes_of(stage).micro_batch.rows
            rows, seconds = _check(resolver, stage, columns, most_rows)
            columns = dict(rows)
            checked.append(stage.name)
        else:
            seconds = _feature_s(resolver, stage, columns)
        compute_s[stage.name] = seconds
        if mark is not None:
            mark.remember(seconds)
    return Preflight(tuple(checked), compute_s)


def _feature_s(resolver: Resolver, stage: Stage, columns: Columns) -> float:
    """Seconds of a row of a stage that is not called in micro-batches: it has no company to be checked in."""
    count = len(next(iter(columns.values())))
    given = resolver.given(stage, columns, count)
    resolver.computations.of(stage)  # opened outside the measured seconds
    started = perf_counter()
    resolver.computations.run(stage, given, resolver.rule)
    return (perf_counter() - started) / count


def _check(
    resolver: Resolver, stage: Stage, columns: Columns, most_rows: int
) -> tuple[Columns, float]:
    """Checks `stage` on rows that share a bucket; returns those rows, and seconds of a row in a full call."""
    count = len(next(iter(columns.values())))
    given = resolver.given(stage, columns, count)
    rows = _company(given.lengths, count, most_rows)
    # Rows without lengths stand at each place of a call, again and again.
    places = np.arange(len(rows) if given.lengths is not None else most_rows)
    own = places % len(rows)
    given = given.take(rows[own])
    run = partial(resolver.computations.run, stage, rule=resolver.rule)
    first = run(given)
    _compare(stage, first, first, own, "at another place of its micro-batch")
    seconds = []
    # Filled up with copies of themselves, alone, and backwards: three companies for one row.
    for taken, how in (
        (places, "run twice"),
        (places[::-1], "among the same rows in another order"),
        (places[:1], "alone in its micro-batch"),
    ):
        started = perf_counter()
        again = run(given.take(taken))
        seconds.append((perf_counter() - started) / (len(taken) + again.padding_rows))
        _compare(stage, first, again, taken, how)
    return {name: values.take(rows) for name, values in columns.items()}, median(seconds)


def _company(
    lengths: npt.NDArray[np.int64] | None, count: int, most_rows: int
) -> npt.NDArray[np.intp]:
    """Rows of the most frequent length, or the first ones: they meet in one micro-batch."""
    if lengths is None:
        return np.arange(min(count, most_rows))
    values, counts = np.unique(lengths, return_counts=True)
    found = np.flatnonzero(lengths == values[counts.argmax()])
    return found[:most_rows]


def _compare(
    stage: Stage,
    first: Values,
    other: Values,
    places: Indices,
    how: str,
) -> None:
    for spec, expected, got in zip(stage.outputs, first.columns, other.columns, strict=True):
        for position, place in enumerate(places):
            if expected[place].tobytes() != got[position].tobytes():
                raise NotRepeatableError(
                    f"stage {stage.name!r} gave other bits in {spec.name!r} for a row {how}; nothing was "
                    "written. A model whose rows depend on each other or on chance cannot be cached: "
                    "take the operator out, or run with the cache off"
                )
