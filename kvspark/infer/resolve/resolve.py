"""The one rule that computes everything.

    resolve(stage, rows):
        unique keys -> look up -> for the misses: resolve(upstream stages, missing rows) -> compute
        in fixed-shape micro-batches -> insert -> scatter back to the rows

It is in two halves, so that misses can wait for more misses: `ask` finds what is known, `make`
computes the rest.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, replace
from functools import partial
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.cache.stage.ahead import Ahead
from kvspark.cache.stage.stage_cache import Lookup
from kvspark.cache.stage.stage_caches import StageCaches
from kvspark.errors import RowError
from kvspark.infer.compute.bad_row_rule import BadRowRule, Refuse, SetAside
from kvspark.infer.compute.calls import grouped
from kvspark.infer.compute.given_rows import Given, given_rows
from kvspark.infer.compute.values import Values, nothing, placed, scattered
from kvspark.infer.resolve.asked_rows import Asked, known_of
from kvspark.infer.resolve.call_proofs import computations_of
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.infer.resolve.in_parts import in_parts, rows_at_once
from kvspark.infer.resolve.keyed_rows import Keyed, RowNumbers, are_distinct
from kvspark.infer.resolve.lease_scheduler import Sharing
from kvspark.infer.resolve.memo import memos_of_towers
from kvspark.infer.resolve.planned_entries import planned_entries
from kvspark.infer.rows.bad_rows import Indices
from kvspark.infer.rows.columns import Column
from kvspark.infer.rows.distinct import all_of, distinct, row_keys
from kvspark.infer.rows.subject import SUBJECT, own_columns
from kvspark.model.run.device import CPU
from kvspark.model.stage.stage import Stage
from kvspark.stats import StageStats

Columns = Mapping[str, Column]


@final
class Resolver:
    """Applies the rule to the stages of one model."""

    def __init__(
        self,
        compiled: CompiledPlan,
        cache: StageCaches | None,
        *,
        threads: int,
        device: str = CPU,
    ) -> None:
        self._compiled = compiled
        self._bundle = compiled.bundle
        self._plan = compiled.plan
        self.rule: BadRowRule = Refuse()
        self.stages = {name: each.stage for name, each in compiled.stages.items()}
        self.computations = computations_of(compiled, cache, threads=threads, device=device)
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        """Of each stage, by the fields of `StageStats`."""
        self.memos = memos_of_towers(compiled)
        self._sharing: dict[str, Sharing] = {}
        self._serial = 0  # of the last row that was known by a number alone
        self.overlap = None if cache is None else cache.overlap()
        self.entries = planned_entries(
            compiled, cache, self.overlap, self._add, threads=threads, device=device
        )
        for name, space in self.entries.items():
            if space.leases is not None and self.stages[name].is_batched:
                values = compiled.stages[name].codec.values
                self._sharing[name] = Sharing(space.reader, space.leases, values)

    def setting_aside(self) -> Resolver:
        """This resolver, for which a bad row is one of `Values.bad` and no error; all else is shared."""
        other = copy(self)
        other.rule = SetAside()
        return other

    def finds_equal_rows(self, stage: Stage, rows: int) -> bool:
        """True if equal ones of `rows` of `stage` are found: where they are looked up now, or are dear to compute."""
        each, space = self._compiled.stages[stage.name], self.entries.get(stage.name)
        is_asked = space is not None and not (space.watch and space.watch.rests(rows))
        return is_asked or each.finds_equal_rows(remembers=stage.name in self.memos)

    def every(self, stage: Stage, columns: Columns, count: int, *, apart: bool = False) -> Values:
        """The results of `stage` for all rows of `columns`: none is looked for, and equal ones are computed twice."""
        self._add(stage, rows=count, rested=count if stage.name in self.entries else 0)
        return self.make(stage, RowNumbers(count, are_distinct=apart), columns)

    def resolve(self, stage: Stage, columns: Columns, count: int, *, apart: bool = False) -> Values:
        """The results of `stage` for the `count` rows of `columns`; none equals another if they are `apart`."""
        columns = own_columns(stage, columns)
        is_kept = stage.name in self.entries or stage.name in self.memos
        if (apart and not is_kept) or not self.finds_equal_rows(stage, count):
            return self.every(stage, columns, count, apart=apart)
        rows = all_of(count) if apart else distinct(list(columns.values()))
        self._add(stage, rows=count, duplicates=count - len(rows))
        memo = self.memos.get(stage.name)
        if memo is None:
            found, known, made = self._find_or_make(stage, columns, rows.first_row)
            return scattered(stage, found, rows.place_of_row, known, made)
        keys = row_keys([column.take(rows.first_row) for column in columns.values()])
        places = memo.places(keys)
        found = places >= 0
        known = Values(memo.take(places[found]))
        self._add(stage, recalled=int(found.sum()))
        made = None
        missing = np.flatnonzero(~found)
        if len(missing):
            parts = self._find_or_make(stage, columns, rows.first_row[missing])
            made = scattered(stage, parts[0], np.arange(len(missing)), *parts[1:])
            good, good_keys = made.good([keys[i] for i in missing])
            if self.is_exact(stage):
                memo.add(good_keys, good.columns)
        return scattered(stage, found, rows.place_of_row, known, made)

    def _find_or_make(
        self, stage: Stage, columns: Columns, rows: Indices
    ) -> tuple[npt.NDArray[np.bool_], Values, Values | None]:
        """Which of `rows`, distinct in `columns`, the store has; their values; and those of the others."""
        columns = {name: column.take(rows) for name, column in columns.items()}
        keys = self._keys(stage, columns, len(rows))
        found, known = self._look_up(stage, keys)
        missing = np.flatnonzero(~found)
        if not len(missing):
            return found, known, None
        if len(missing) < len(rows):
            columns = {name: column.take(missing) for name, column in columns.items()}
        try:
            made = self.make(stage, [keys[i] for i in missing], columns)
        except RowError as error:
            raise error.at(int(rows[missing[error.row or 0]])) from error.__cause__
        return found, known, made

    def keyed(self, stage: Stage, columns: Columns) -> Keyed:
        """The rows of `columns` by their keys."""
        columns = own_columns(stage, columns)
        rows = distinct(list(columns.values()))
        own = {name: column.take(rows.first_row) for name, column in columns.items()}
        return Keyed(self._keys(stage, own, len(rows)), rows.place_of_row, rows.first_row)

    def ask(
        self, stage: Stage, rows: Keyed, pending: Mapping[bytes, int], ahead: Ahead | None = None
    ) -> Asked:
        """What the store knows of the rows, or `ahead` does; keys in `pending` are not looked up again."""
        keys, count = rows.keys, len(rows.key_of_row)
        wanted = [i for i, key in enumerate(keys) if key not in pending]
        self._add(stage, rows=count, duplicates=count - len(wanted))
        known = known_of(ahead, keys, pending)
        if known is not None:
            return Asked(*self._known(stage, len(wanted), known))
        if len(wanted) == len(keys):
            return Asked(*self._look_up(stage, keys))
        found = np.zeros(len(keys), dtype=bool)
        is_known, values = self._look_up(stage, [keys[i] for i in wanted])
        found[np.array(wanted, dtype=np.intp)[is_known]] = True
        return Asked(found, values)

    def _keys(self, stage: Stage, columns: Columns, count: int) -> list[bytes]:
        """A key for each row of `columns`, which are distinct at `stage`."""
        space = self.entries.get(stage.name)
        if space is None and count >= self._plan.max_pending_rows:
            # They fill a window alone and meet no other rows: serial numbers will do.
            self._serial += count
            return list(RowNumbers(count, self._serial - count, are_distinct=True))
        if space is None:
            return row_keys(list(columns.values()))
        keys = row_keys([columns[name] for name in stage.inputs])
        subjects = columns[SUBJECT].row_bytes() if SUBJECT in columns else None
        return space.digester.of(keys, subjects)

    def _look_up(self, stage: Stage, keys: Sequence[bytes]) -> tuple[npt.NDArray[np.bool_], Values]:
        """Which of `keys` the store has, and the values of those."""
        space = self.entries.get(stage.name)
        if space is None or not keys:
            return np.zeros(len(keys), dtype=bool), nothing(stage)
        started = time.perf_counter()
        lookup = space.reader.lookup(keys)
        self._add(stage, seconds_lookup=time.perf_counter() - started)
        return self._known(stage, len(keys), lookup)

    def _known(
        self, stage: Stage, count: int, lookup: Lookup
    ) -> tuple[npt.NDArray[np.bool_], Values]:
        """What a look-up of `count` rows has found."""
        rested, hits = lookup.rested, int(lookup.found.sum())
        counts = {"lookups": count - rested, "rested": rested, "hits": hits}
        self._add(stage, **counts, bytes_read=lookup.size_bytes)
        return lookup.found, self._compiled.stages[stage.name].codec.values(lookup.columns)

    def make(self, stage: Stage, keys: Sequence[bytes], columns: Columns) -> Values:
        """Computes the rows of `columns` and inserts them under `keys`, which are distinct or `RowNumbers`.

        In parts, where the results of the stages before it would take more memory than the plan
        lets rows wait in: 4,096 pictures of 100 KB are 2.5 GB as tensors.
        """
        step = rows_at_once(self._compiled, stage, len(keys))
        if len(keys) <= step:
            return self._make(stage, keys, columns)
        return in_parts(stage, keys, columns, step, partial(self._make, stage))

    def _make(self, stage: Stage, keys: Sequence[bytes], columns: Columns) -> Values:
        given = self.given(stage, columns, len(keys), apart=are_distinct(keys))
        self.computations.of(stage)  # opened outside the measured seconds
        sharing = self._sharing.get(stage.name)
        if sharing is None:
            return self._compute(stage, keys, given)[0]
        rows, bad_rows = given.apart()
        groups = grouped(given.lengths, rows, self._bundle.shapes_of(stage))
        if not sharing.concerns(groups):
            return self._compute(stage, keys, given)[0]
        share = sharing.share(groups, keys, partial(self._compute_some, stage, keys, given))
        self._counts[stage.name].update(asdict(share.stats))
        if len(bad_rows):
            share.parts.append((bad_rows, self._compute_some(stage, keys, given, bad_rows)[0]))
        return placed(stage, share.parts)

    def _compute_some(
        self, stage: Stage, keys: Sequence[bytes], given: Given, rows: Indices
    ) -> tuple[Values, float]:
        """As `_compute`, of some rows of `given`."""
        try:
            return self._compute(stage, [keys[row] for row in rows], given.take(rows))
        except RowError as error:
            raise error.at(int(rows[error.row or 0])) from error.__cause__

    def _compute(self, stage: Stage, keys: Sequence[bytes], given: Given) -> tuple[Values, float]:
        """The results of all rows of `given`, which are inserted, and the seconds of a call."""
        started = time.perf_counter()
        made = self.computations.run(stage, given, self.rule)
        seconds = time.perf_counter() - started
        self._add(
            stage,
            computed=given.count - len(made.bad),
            micro_batches=made.micro_batches,
            padding_rows=made.padding_rows,
            seconds_compute=seconds,
        )
        kept = self._compiled.stages[stage.name].codec.kept(made, keys)
        space = self.entries.get(stage.name)
        if space is not None and not isinstance(keys, RowNumbers) and self.is_exact(stage):
            started = time.perf_counter()
            # A hit spares the stages before as well.
            cost_us = int((seconds + given.upstream_s) / max(1, given.count) * 1e6)
            written = space.writer.insert(kept.keys, kept.columns, cost_us=cost_us)
            self._add(stage, bytes_written=written, seconds_insert=time.perf_counter() - started)
        return kept.values, seconds / max(1, made.micro_batches)

    def is_exact(self, stage: Stage | None = None) -> bool:
        """False if `stage`, or one before it, was computed in other shapes than those of its fingerprint.

        Of the whole model, where no stage is named. What is not exact is not kept.
        """
        names = [*self.stages] if stage is None else self._compiled.stages[stage.name].lineage
        return self.computations.are_exact(names)

    def flush(self) -> None:
        """Waits for a while for what was inserted behind."""
        for name, stats in self.overlap.flush().items() if self.overlap else ():
            self._counts[name].update(asdict(stats))

    def drain(self) -> dict[str, StageStats]:
        """What happened since the last drain, by stage, for all stages."""
        for name, opened in self.computations.drain().items():
            self._add(self.stages[name], weights_loaded=len(opened), seconds_opened=sum(opened))
        stats = {name: StageStats(**self._counts[name]) for name in self.stages}
        self._counts.clear()
        return stats

    def given(self, stage: Stage, columns: Columns, count: int, *, apart: bool = False) -> Given:
        """What `stage` takes for the `count` rows of `columns`, of which none equals another if they are `apart`.

        Raises:
            RowError: a row is bad, two of its inputs have different lengths say, and is not set aside.
        """
        upstream = self._compiled.stages[stage.name].upstream
        before_s = self._seconds()
        results = []
        for each in upstream:
            is_apart = apart and set(each.inputs) == set(stage.inputs)
            results.append((each, self.resolve(each, columns, count, apart=is_apart)))
        given = given_rows(stage, columns, results, count, self._bundle.length_rule, self.rule)
        return replace(given, upstream_s=self._seconds() - before_s)

    def _seconds(self) -> float:
        """Seconds in look-ups and in stages, since the last drain."""
        return sum(c["seconds_lookup"] + c["seconds_compute"] for c in self._counts.values())

    def _add(self, stage: Stage, **counts: float) -> None:
        self._counts[stage.name].update(counts)
