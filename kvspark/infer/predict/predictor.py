"""The predictor: rows in, results out, with a model and, where there is one, a cache."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, final

import numpy as np
import pyarrow as pa

from kvspark.errors import RowError, SchemaError, UsageError
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.infer.resolve.resolve import Columns, Resolver
from kvspark.infer.rows.arrow import output_array
from kvspark.infer.rows.bad_rows import BadRow, BadRows
from kvspark.infer.rows.readable import Readable, read_all, readable
from kvspark.infer.rows.subject import bound
from kvspark.infer.stream import stream
from kvspark.model.run.device import device_class
from kvspark.spec import TensorSpec
from kvspark.stats import RunStats

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache

OUT_OF_MEMORY = "out_of_memory"
"""A GPU's memory did not hold a micro-batch: rows were computed in smaller ones, so that their last bits
may differ, and were not cached."""

T = TypeVar("T")
ArrowColumns = Mapping[str, pa.Array]
Read = Callable[[ArrowColumns, tuple[TensorSpec, ...], int], Readable]


@final
@dataclass(frozen=True, slots=True)
class _Batch(Generic[T]):
    """A batch on its way through a window: its tag, and the rows that are not on the way."""

    tag: T
    count: int
    read: Readable

    @property
    def nbytes(self) -> int:
        return int(getattr(self.tag, "nbytes", 0))


@final
class Predictor:
    """Scores rows with one model; not shared between threads.

    Guarantees: the results are those of a run without a cache, bit for bit, whatever the cache
    holds or does.
    """

    def __init__(
        self,
        compiled: CompiledPlan,
        *,
        cache: Cache | None = None,
        threads: int = 1,
        device: str | None = None,
    ) -> None:
        """A predictor of `compiled` that computes with `threads` threads at the most.

        With one thread for every 32 rows of a micro-batch: more could change last bits. Graph stages
        are computed on `device` (`cpu`, `cuda:1`), one of the model's own class.

        Opens nothing: a stage's weights are opened when rows of that stage must be computed.

        Raises:
            UsageError: `threads` is not positive, or `device` of another class than the plan was compiled for.
        """
        if threads < 1:
            raise UsageError(f"threads must be at least 1, got {threads}")
        self.bundle = compiled.bundle
        self.plan = compiled.plan
        threads = self.bundle.micro_batch.threads(threads)
        self._cache = cache
        self._rows = 0
        self._bad_rows: Counter[tuple[str, str]] = Counter()
        # Two pools of threads on one core slow each other down.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if threads > 1 else "false")
        os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
        device = device or compiled.device
        if device_class(device) != device_class(compiled.device):
            # Entries would have the fingerprints of the other class.
            raise UsageError(f"the plan was compiled for {compiled.device}, got device {device!r}")
        self.resolver = Resolver(compiled, cache, threads=threads, device=device)
        """What looks up, computes and inserts the rows."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What `predict` and `stream` give for a row."""
        return self.bundle.outputs

    def predict(self, columns: ArrowColumns) -> dict[str, pa.Array]:
        """The outputs for the rows of `columns`, in their order.

        Raises:
            DataError: a null, or a value of another shape than the model takes.
            SchemaError: an input is missing or has another type.
        """
        ((_, outputs),) = self.stream([(None, columns)])
        return outputs

    def stream(
        self, batches: Iterable[tuple[T, ArrowColumns]]
    ) -> Iterator[tuple[T, dict[str, pa.Array]]]:
        """The outputs of each batch with its tag, in the order of `batches`.

        Misses are gathered over batches, within the plan's limits, so a batch may be read long
        before its outputs leave. Raises what `predict` raises.
        """
        for tag, outputs, _ in self._results(batches, self.resolver, read_all):
            yield tag, outputs

    def stream_apart(
        self, batches: Iterable[tuple[T, ArrowColumns]]
    ) -> Iterator[tuple[T, dict[str, pa.Array], BadRows]]:
        """What `stream` gives, and the bad rows of each batch: their outputs are null.

        Guarantees: the other rows have the bits that they have without the bad ones.

        Raises:
            SchemaError: an input is missing or has another type.
        """
        yield from self._results(batches, self.resolver.setting_aside(), readable)

    def _results(
        self, batches: Iterable[tuple[T, ArrowColumns]], resolver: Resolver, read: Read
    ) -> Iterator[tuple[T, dict[str, pa.Array], BadRows]]:
        last = self.bundle.stages[-1]
        try:
            made = stream.results(resolver, last, self.plan, self._checked(batches, read))
            for batch, rows, failed in made:
                outputs = {
                    spec.name: output_array(values, spec)
                    for spec, values in zip(self.outputs, rows, strict=True)
                }
                bad = dict(batch.read.bad)
                if failed:
                    bad.update({int(batch.read.good[row]): why for row, why in failed.items()})
                if bad:
                    self._bad_rows.update((why.stage, why.error) for why in bad.values())
                    outputs = _with_nulls(outputs, batch, failed)
                yield batch.tag, outputs, bad
        except RowError as error:
            if isinstance(error.batch, _Batch):
                error.batch = error.batch.tag
            raise
        finally:
            self.resolver.flush()

    def warm(self, name: str, columns: ArrowColumns) -> int:
        """Computes the stage `name` for those rows of `columns` that the cache lacks; returns all rows.

        `columns` holds the inputs that reach the stage; bad rows are left out.
        """
        (stage,) = (stage for stage in self.bundle.stages if stage.name == name)
        specs = {spec.name: spec for spec in self.bundle.inputs}
        count = len(columns[stage.inputs[0]])
        found = readable(columns, [specs[each] for each in stage.inputs], count)
        if len(found.good):
            rows = bound(found, columns, self._cache)
            self.resolver.setting_aside().resolve(stage, rows, len(found.good))
        return count

    def drain(self) -> RunStats:
        """What happened since the last drain; the cache's troubles included."""
        counted = self._drained()
        if self._cache is None:
            return counted
        trouble = self._cache.drain()
        return counted + RunStats(cache_errors=trouble.errors, degraded=trouble.degraded)

    def count(self) -> None:
        """Adds what happened to what the cache counts for `Cache.stats`; its troubles are there already."""
        if self._cache is not None:
            self._cache.counted.add(self._drained())

    def _drained(self) -> RunStats:
        rows, self._rows = self._rows, 0
        bad: dict[str, dict[str, int]] = {}
        for (stage, error), count in sorted(self._bad_rows.items()):
            bad.setdefault(stage, {})[error] = count
        self._bad_rows.clear()
        self.resolver.flush()
        stages = self.resolver.drain()
        short = frozenset() if self.resolver.is_exact() else frozenset({OUT_OF_MEMORY})
        rests = {
            name: rest
            for name, space in self.resolver.entries.items()
            if stages[name].rested and space.watch and (rest := space.watch.rest()) is not None
        }
        return RunStats(rows, stages, degraded=short, bad_rows=bad, rests=rests)

    def _checked(
        self, batches: Iterable[tuple[T, ArrowColumns]], read: Read
    ) -> Iterator[tuple[_Batch[T], Columns, int]]:
        for tag, arrays in batches:
            missing = [spec.name for spec in self.bundle.inputs if spec.name not in arrays]
            if missing:
                raise SchemaError(
                    f"input {missing[0]!r} of model {self.bundle.name!r} is missing; got {', '.join(arrays)}"
                )
            counts = {spec.name: len(arrays[spec.name]) for spec in self.bundle.inputs}
            if len(set(counts.values())) > 1:
                raise SchemaError(f"the inputs have different numbers of rows: {counts}")
            count = next(iter(counts.values()))
            try:
                found = read(arrays, self.bundle.inputs, count)
            except RowError as error:
                error.batch = tag
                raise
            self._rows += count
            yield _Batch(tag, count, found), bound(found, arrays, self._cache), len(found.good)


def _with_nulls(
    outputs: Mapping[str, pa.Array], batch: _Batch[T], failed: Mapping[int, BadRow]
) -> dict[str, pa.Array]:
    """The outputs of all rows of `batch`; those of the good rows without the `failed` ones are there."""
    place = np.zeros(batch.count, dtype=np.int64)
    is_null = np.ones(batch.count, dtype=bool)
    place[batch.read.good] = np.arange(len(batch.read.good))
    is_null[batch.read.good] = False
    is_null[[int(batch.read.good[row]) for row in failed]] = True
    taken = pa.array(place, mask=is_null)
    return {name: array.take(taken) for name, array in outputs.items()}
