"""The predictor: rows in, results out, with a model and, where there is one, a cache."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar, final

import pyarrow as pa

from kvspark.errors import SchemaError, UsageError
from kvspark.infer.arrow import output_array
from kvspark.infer.columns import column
from kvspark.infer.plan import Plan
from kvspark.infer.resolve import Columns, Resolver
from kvspark.infer.window import Window
from kvspark.model.bundle import Bundle
from kvspark.spec import TensorSpec
from kvspark.stats import RunStats

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache

T = TypeVar("T")
ArrowColumns = Mapping[str, pa.Array]


@final
class Predictor:
    """Scores rows with one model; not shared between threads.

    Guarantees: the results are those of a run without a cache, bit for bit, whatever the cache
    holds or does.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        plan: Plan | None = None,
        cache: Cache | None = None,
        threads: int = 1,
    ) -> None:
        """A predictor of `bundle` that computes with `threads` threads at the most.

        With one thread for every 32 rows of a micro-batch: more could change last bits.

        Opens nothing: a stage's weights are opened when rows of that stage must be computed.

        Raises:
            UsageError: the plan does not fit the model, or `threads` is not positive.
        """
        if threads < 1:
            raise UsageError(f"threads must be at least 1, got {threads}")
        plan = plan or Plan()
        if plan.micro_batch is not None:
            bundle = bundle.with_micro_batch(plan.micro_batch)
        threads = bundle.micro_batch.threads(threads)
        self.bundle = bundle
        self.plan = plan.for_bundle(bundle)
        self._cache = cache
        self._rows = 0
        # Two pools of threads on one core slow each other down.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if threads > 1 else "false")
        os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
        self._threads = threads
        self._resolver = Resolver(bundle, self.plan, cache, threads=threads)

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
        window: Window[T] = Window(self._resolver, self.bundle.stages[-1], self.plan)
        for tag, rows in window.results(self._checked(batches)):
            yield (
                tag,
                {
                    spec.name: output_array(values, spec)
                    for spec, values in zip(self.outputs, rows, strict=True)
                },
            )

    def drain(self) -> RunStats:
        """What happened since the last drain; the cache's troubles included."""
        rows, self._rows = self._rows, 0
        stages = self._resolver.drain()
        if self._cache is None:
            return RunStats(rows, stages)
        trouble = self._cache.drain()
        return RunStats(rows, stages, trouble.errors, trouble.degraded)

    def _checked(
        self, batches: Iterable[tuple[T, ArrowColumns]]
    ) -> Iterator[tuple[T, Columns, int]]:
        for tag, arrays in batches:
            missing = [spec.name for spec in self.bundle.inputs if spec.name not in arrays]
            if missing:
                raise SchemaError(
                    f"input {missing[0]!r} of model {self.bundle.name!r} is missing; got {', '.join(arrays)}"
                )
            columns = {spec.name: column(arrays[spec.name], spec) for spec in self.bundle.inputs}
            counts = {name: len(values) for name, values in columns.items()}
            if len(set(counts.values())) > 1:
                raise SchemaError(f"the inputs have different numbers of rows: {counts}")
            count = next(iter(counts.values()))
            self._rows += count
            yield tag, columns, count
