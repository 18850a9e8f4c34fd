"""The one rule that computes everything.

    resolve(stage, rows):
        unique keys -> look up -> for the misses: resolve(upstream stages, missing rows) -> compute
        in fixed-shape micro-batches -> insert -> scatter back to the rows

It is in two halves, so that misses can wait for more misses: `ask` finds what is known, `make`
computes the rest.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.cache.admission import admitted
from kvspark.cache.entries import Entries, KeySpaces
from kvspark.errors import RowError
from kvspark.infer.bad_row_rule import BadRowRule, Refuse, SetAside
from kvspark.infer.bad_rows import BadRow, BadRows, bad_at, bad_joined, unequal
from kvspark.infer.columns import Column
from kvspark.infer.microbatch import Values, compute
from kvspark.infer.plan import Plan
from kvspark.model.bundle import Bundle
from kvspark.model.computation import Computation
from kvspark.model.numerics import numerics_digest
from kvspark.model.stage import Stage
from kvspark.spec import Rows, TensorSpec
from kvspark.stats import StageStats

Columns = Mapping[str, Column]
LENGTH = TensorSpec("length", "int64", ())
"""Stored with the results of a stage that have a varying dimension."""


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of n rows at one stage."""

    keys: list[bytes]
    """Distinct keys, in order of first row."""
    key_of_row: npt.NDArray[np.intp]
    first_row: npt.NDArray[np.intp]
    """For each key, the first row that has it."""
    found: npt.NDArray[np.bool_]
    """For each key, whether its values were found."""
    values: Values
    """Of the found keys, in their order."""


@final
class Resolver:
    """Applies the rule to the stages of one model."""

    def __init__(
        self, bundle: Bundle, plan: Plan, cache: KeySpaces | None, *, threads: int
    ) -> None:
        self._bundle = bundle
        self._plan = plan
        self._threads = threads
        self.rule: BadRowRule = Refuse()
        self._stages = {stage.name: stage for stage in bundle.stages}
        self._computations: dict[str, Computation] = {}
        self._stats: dict[str, StageStats] = defaultdict(StageStats)
        self._key_spaces: dict[str, Entries] = {}
        if cache is not None:
            place = numerics_digest(threads=threads)
            for stage in bundle.stages:
                planned = plan.stages[stage.name]
                if planned.cached:
                    identity = stage.fingerprint + (place if stage.has_arithmetic else b"")
                    space = cache.keyspace(identity, _entry_specs(stage), codec=planned.codec)
                    self._key_spaces[stage.name] = admitted(space, planned.share)

    def setting_aside(self) -> Resolver:
        """This resolver, for which a bad row is one of `Values.bad` and no error; all else is shared."""
        other = copy(self)
        other.rule = SetAside()
        return other

    def resolve(self, stage: Stage, columns: Columns, count: int) -> Values:
        """The results of `stage` for the `count` rows of `columns`, in their order."""
        asked = self.ask(stage, columns, count, {})
        missing = np.flatnonzero(~asked.found)
        if not len(missing):
            return _scattered(stage, asked, asked.values, None)
        rows = asked.first_row[missing]
        try:
            made = self.make(
                stage,
                [asked.keys[i] for i in missing],
                {name: column.take(rows) for name, column in columns.items()},
            )
        except RowError as error:
            raise error.at(int(rows[error.row or 0])) from error.__cause__
        return _scattered(stage, asked, asked.values, made)

    def ask(
        self, stage: Stage, columns: Columns, count: int, pending: Mapping[bytes, int]
    ) -> Asked:
        """What the store knows of the rows; keys in `pending` are not looked up again."""
        keys, first_row, key_of_row = self._distinct(stage, columns, count)
        found = np.zeros(len(keys), dtype=bool)
        values = _nothing(stage)
        space = self._key_spaces.get(stage.name)
        wanted = [i for i, key in enumerate(keys) if key not in pending]
        if space is not None and wanted:
            started = time.perf_counter()
            lookup = space.lookup([keys[i] for i in wanted])
            found[np.array(wanted)[lookup.found]] = True
            values = _values(stage, lookup.columns)
            self._add(
                stage,
                lookups=len(wanted),
                hits=int(lookup.found.sum()),
                bytes_read=lookup.size_bytes,
                seconds_lookup=time.perf_counter() - started,
            )
        self._add(stage, rows=count, duplicates=count - len(wanted))
        return Asked(keys, key_of_row, first_row, found, values)

    def make(self, stage: Stage, keys: Sequence[bytes], columns: Columns) -> Values:
        """Computes the rows of `columns`, which are distinct at `stage`, and inserts them under `keys`.

        In parts, where the results of the stages before it would take more memory than the plan
        lets rows wait in: 4,096 pictures of 100 KB are 2.5 GB as tensors.
        """
        step = self._rows_at_once(stage)
        if len(keys) <= step:
            return self._make(stage, keys, columns)
        parts = []
        for start in range(0, len(keys), step):
            rows = np.arange(start, min(start + step, len(keys)))
            part = {name: column.take(rows) for name, column in columns.items()}
            try:
                parts.append(self._make(stage, keys[start : start + step], part))
            except RowError as error:
                raise error.at(start + (error.row or 0)) from error.__cause__
        return _joined(stage, parts)

    def _rows_at_once(self, stage: Stage) -> int:
        sizes = [self._stages[name].bytes_per_row or 0 for name in stage.upstream]
        full = self._bundle.micro_batch.rows
        # Whole micro-batches, so that parts cost no padding where rows have no lengths.
        return max(1, self._plan.max_held_bytes // max(1, sum(sizes)) // full) * full

    def _make(self, stage: Stage, keys: Sequence[bytes], columns: Columns) -> Values:
        count = len(keys)
        bad: dict[int, BadRow] = {}
        arguments, lengths = self.arguments(stage, columns, count, bad)
        self.computation(stage)  # opened outside the measured seconds
        started = time.perf_counter()
        made = self.run(stage, arguments, lengths, count, bad)
        seconds = time.perf_counter() - started
        self._add(
            stage,
            computed=count - len(made.bad),
            micro_batches=made.micro_batches,
            padding_rows=made.padding_rows,
            seconds_compute=seconds,
        )
        space = self._key_spaces.get(stage.name)
        if space is not None:
            started = time.perf_counter()
            cost_us = int(seconds / max(1, count) * 1e6)
            known, known_keys = made.good(keys)
            written = space.insert(known_keys, _entry_columns(stage, known), cost_us=cost_us)
            self._add(stage, bytes_written=written, seconds_insert=time.perf_counter() - started)
        return made

    def run(
        self,
        stage: Stage,
        arguments: Sequence[object],
        lengths: npt.NDArray[np.int64] | None,
        count: int,
        bad: BadRows | None = None,
    ) -> Values:
        """Computes `stage` for `count` rows of its own arguments, but for those that are `bad` already."""
        return compute(
            stage,
            self.computation(stage),
            arguments,
            lengths,
            count,
            self._bundle.micro_batch,
            trims=stage is self._bundle.stages[-1],
            rule=self.rule,
            bad=bad,
        )

    def drain(self) -> dict[str, StageStats]:
        """What happened since the last drain, by stage, for all stages."""
        stats = {name: self._stats[name] for name in self._stages}
        self._stats.clear()
        return stats

    def _distinct(
        self, stage: Stage, columns: Columns, count: int
    ) -> tuple[list[bytes], npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        parts = [columns[name].row_bytes() for name in stage.inputs]
        rows = parts[0] if len(parts) == 1 else [b"".join(row) for row in zip(*parts, strict=True)]
        space = self._key_spaces.get(stage.name)
        digests = rows if space is None else space.digests(rows)
        place: dict[bytes, int] = {}
        key_of_row = np.fromiter(
            (place.setdefault(key, len(place)) for key in digests), dtype=np.intp, count=count
        )
        first_row = np.full(len(place), count, dtype=np.intp)
        np.minimum.at(first_row, key_of_row, np.arange(count))
        return list(place), first_row, key_of_row

    def arguments(
        self, stage: Stage, columns: Columns, count: int, bad: dict[int, BadRow]
    ) -> tuple[list[object], npt.NDArray[np.int64] | None]:
        """What `stage` takes for the rows, in the order of its sources, and the rows' lengths.

        Rows that are bad before they reach it go to `bad`.

        Raises:
            RowError: a row is bad, two of its inputs have different lengths say, and is not set aside.
        """
        results = {}
        for name in stage.upstream:
            upstream = self._stages[name]
            results[name] = self.resolve(
                upstream, {input_: columns[input_] for input_ in upstream.inputs}, count
            )
            bad.update({row: why for row, why in results[name].bad.items() if row not in bad})
        arguments: list[object] = []
        lengths: npt.NDArray[np.int64] | None = None
        for source in stage.sources:
            if source.stage is None:
                column = columns[source.tensor.name]
                arguments.append(column.argument())
                own = column.lengths
            else:
                specs = self._stages[source.stage].outputs
                position = [spec.name for spec in specs].index(source.tensor.name)
                arguments.append(results[source.stage].columns[position])
                own = results[source.stage].lengths if None in source.tensor.shape else None
            if own is not None:
                if lengths is not None and not np.array_equal(lengths, own):
                    for row, why in unequal(source.tensor.name, own, lengths).items():
                        self.rule.found(row, why, bad)
                lengths = own
        return arguments, lengths

    def computation(self, stage: Stage) -> Computation:
        """What `stage` runs; opened once."""
        if stage.name not in self._computations:
            self._computations[stage.name] = self._bundle.computation(stage, threads=self._threads)
            self._add(stage, weights_loaded=1)
        return self._computations[stage.name]

    def _add(self, stage: Stage, **counts: float) -> None:
        self._stats[stage.name] += StageStats(**counts)  # type: ignore[arg-type]  # the counts of StageStats


def scatter(rows_of: Sequence[Rows], index: npt.NDArray[np.intp], spec: TensorSpec) -> Rows:
    """The rows at `index` of `rows_of`, taken as one sequence laid end to end."""
    if spec.is_fixed:
        return np.concatenate([np.asarray(rows) for rows in rows_of])[index]
    flat = [row for rows in rows_of for row in rows]
    return [flat[i] for i in index]


def _scattered(stage: Stage, asked: Asked, found: Values, made: Values | None) -> Values:
    """The values of all rows, of which `found` and `made` hold the distinct ones."""
    parts = [found] if made is None else [found, made]
    position = np.empty(len(asked.keys), dtype=np.intp)
    hits = int(asked.found.sum())
    position[asked.found] = np.arange(hits)
    position[~asked.found] = hits + np.arange(len(asked.keys) - hits)
    index = position[asked.key_of_row]
    columns = tuple(
        scatter([part.columns[i] for part in parts], index, spec)
        for i, spec in enumerate(stage.outputs)
    )
    known = [part.lengths for part in parts if part.lengths is not None]
    lengths = np.concatenate(known)[index] if known and _varies(stage) else None
    bad = {} if made is None else bad_at(made.bad, index - hits)
    return Values(columns, lengths, bad=bad)


def _joined(stage: Stage, parts: Sequence[Values]) -> Values:
    """The values of `parts`, one after the other."""
    index = np.arange(sum(len(part.columns[0]) for part in parts))
    columns = tuple(
        scatter([part.columns[i] for part in parts], index, spec)
        for i, spec in enumerate(stage.outputs)
    )
    known = [part.lengths for part in parts if part.lengths is not None]
    bad = bad_joined([(part.bad, len(part.columns[0])) for part in parts])
    return Values(columns, np.concatenate(known) if known else None, bad=bad)


def _varies(stage: Stage) -> bool:
    return any(not spec.is_fixed for spec in stage.outputs)


def _entry_specs(stage: Stage) -> tuple[TensorSpec, ...]:
    return (*stage.outputs, LENGTH) if _varies(stage) else stage.outputs


def _entry_columns(stage: Stage, values: Values) -> tuple[Rows, ...]:
    if not _varies(stage) or values.lengths is None:
        return values.columns
    return (*values.columns, values.lengths)


def _values(stage: Stage, columns: tuple[Rows, ...]) -> Values:
    if not _varies(stage):
        return Values(columns)
    return Values(columns[:-1], np.asarray(columns[-1], dtype=np.int64))


def _nothing(stage: Stage) -> Values:
    columns: list[Rows] = []
    for spec in stage.outputs:
        shape = tuple(dim or 0 for dim in spec.shape)
        columns.append(np.empty((0, *shape), spec.numpy_dtype) if spec.is_fixed else [])
    return replace(
        Values(tuple(columns)), lengths=np.empty(0, np.int64) if _varies(stage) else None
    )
