"""The check before a run: does each stage give the same bits twice, and in any company?

A stage that does not must not be cached: its entries would depend on who asked first. What has been
checked is remembered in the cache, under the stage's own fingerprint, so a night that re-uses a
trunk does not open it only to check it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from kvspark.cache.stage.stage_cache import NoWriter, StageCache
from kvspark.errors import NotRepeatableError
from kvspark.fingerprint import digest
from kvspark.infer.compute.values import Values
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.infer.resolve.resolve import Columns, Resolver
from kvspark.infer.rows.bad_rows import Indices
from kvspark.infer.rows.columns import Column, column
from kvspark.infer.rows.subject import SUBJECT, subject_column
from kvspark.model.run.device import CPU
from kvspark.model.run.numerics import place_of
from kvspark.model.stage.stage import Stage
from kvspark.spec import TensorSpec

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.cache.guard.guard import Guard

SAMPLE_ROWS = 64
"""Rows from which those of one length bucket are taken: enough to fill most of a micro-batch."""

_CHECKED = TensorSpec("checked", "bool")
_MARK = [b""]


def preflight(
    compiled: CompiledPlan,
    arrays: Mapping[str, pa.Array],
    *,
    cache: Cache | None = None,
    threads: int = 1,
    device: str = CPU,
) -> tuple[str, ...]:
    """The names of the stages that were checked now, on some rows of `arrays`.

    Stages that an earlier preflight has checked under the same fingerprint, on a machine with the
    same arithmetic, are left out. Reads the cache, and writes nothing but what was checked.

    Raises:
        NotRepeatableError: a stage gives other bits in another run or among other rows.
        DataError: the rows are not what the model takes.
    """
    bundle = compiled.bundle
    threads = bundle.micro_batch.threads(threads)
    reading = None if cache is None else _Reading(cache)
    resolver = Resolver(compiled, reading, threads=threads, device=device)
    columns: dict[str, Column] = {
        spec.name: column(arrays[spec.name][:SAMPLE_ROWS], spec) for spec in bundle.inputs
    }
    if SUBJECT in arrays:
        columns[SUBJECT] = subject_column(arrays[SUBJECT][:SAMPLE_ROWS])
    if not len(next(iter(columns.values()))):
        return ()
    checked = []
    for stage in (stage for stage in bundle.stages if stage.is_batched):
        mark = None if cache is None else _mark(cache, stage, threads, device)
        if mark is not None and mark.lookup(mark.digests(_MARK)).found[0]:
            continue
        most_rows = bundle.shapes_of(stage).micro_batch.rows
        columns = dict(_check(resolver, stage, columns, most_rows))
        checked.append(stage.name)
        if mark is not None:
            mark.insert(mark.digests(_MARK), (np.ones(1, dtype=bool),), cost_us=0)
    return tuple(checked)


def _mark(cache: Cache, stage: Stage, threads: int, device: str) -> StageCache:
    identity = digest("kvspark.checked", [stage.fingerprint, place_of(stage, threads, device)])
    return cache.keyspace(identity, (_CHECKED,))


def _check(resolver: Resolver, stage: Stage, columns: Columns, most_rows: int) -> Columns:
    """Checks `stage` on rows that share a bucket, and returns those rows."""
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
    # Filled up with copies of themselves, alone, and backwards: three companies for one row.
    for taken, how in (
        (places, "run twice"),
        (places[::-1], "among the same rows in another order"),
        (places[:1], "alone in its micro-batch"),
    ):
        _compare(stage, first, run(given.take(taken)), taken, how)
    return {name: values.take(rows) for name, values in columns.items()}


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


@final
class _Reading:
    """A cache whose entries are read and not written."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def keyspace(
        self,
        identity: bytes,
        specs: tuple[TensorSpec, ...],
        *,
        codec: str = "raw",
        guard: Guard | None = None,
    ) -> StageCache:
        space = self._cache.keyspace(identity, specs, codec=codec, guard=guard)
        return replace(space, writer=NoWriter(), leases=None)

    def overlap(self) -> None:
        """Nothing is written, and nothing is looked up twice."""
