"""How fast Spark scores the rows of a sample with the settings of a candidate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, final

import pyarrow as pa

from kvspark.config.job import JobConfig
from kvspark.errors import KvsparkError, LossyCodecError
from kvspark.fingerprint import digest
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.model.run.device import CPU, has_gpu
from kvspark.spark.check.opened import open_model, plan_of
from kvspark.spark.runs.tally import Tally
from kvspark.spark.scoring.bad_rows import BadRowOutput, NoBadRows, NullOutputs
from kvspark.spark.scoring.score import task_spec, with_outputs
from kvspark.spark.scoring.task_device import on_task_devices
from kvspark.spark.session.failure import explained
from kvspark.spark.tuning.sample import Sample
from kvspark.spark.tuning.trial_session import TASK_CPUS, TrialSessions
from kvspark.spark.tuning.trial_store import TrialStore
from kvspark.stats import NOTHING, RunStats
from kvspark.tune.space import Candidate
from kvspark.tune.trial import Measured

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.infer.model import Model

FIRST, NEXT, COMPUTE = "first night", "next night", "without a cache"

COMPARED_ROWS = 256
"""Whose outputs are compared where a candidate changes bits: as of the probe of lossy codecs."""


@final
class SparkMeasure:
    """Measures candidates on `sample`; what a task opens is opened before, by the rows `warm_up`.

    With a store the rows are scored twice, as in a night that finds nothing and in one that finds all.
    """

    def __init__(
        self,
        read: Callable[[Candidate], JobConfig],
        sessions: TrialSessions,
        store: TrialStore | None,
        model: Model,
        compiled: CompiledPlan,
        *,
        dtype: str | None,
    ) -> None:
        self._read = read
        self._sessions = sessions
        self._store = store
        self._given = model
        self._compiled = compiled
        self._models: dict[str | None, Model] = {dtype: model}
        """By dtype, in whatever shapes."""
        self._rows: Mapping[str, pa.Array] = {}
        self._outputs: Mapping[str, pa.Array] = {}
        self.warm_up: Sample
        self.sample: Sample
        self.repeats = 1
        """How often the sample is scored for one measurement: more often where it is small."""

    def __call__(self, candidate: Candidate) -> Measured:
        """How fast `candidate` is.

        Raises:
            KvsparkError: it cannot be run, changes predictions, or no row could be scored.
        """
        try:
            return self._measured(candidate)
        except KvsparkError:
            raise
        except Exception as exc:  # noqa: BLE001 - Spark's and torch's errors have no root of their own.
            # Only its class: the text of a foreign exception may hold a row.
            raise explained(exc) or KvsparkError(f"the trial raised {type(exc).__name__}") from None

    def _measured(self, candidate: Candidate) -> Measured:
        config = self._read(candidate)
        spark = self._sessions.of(config.spark)
        model = self._model(config, candidate)
        device = on_task_devices(spark, model.bundle).device
        model = model if device is None else model.with_device(device)
        compiled = self._planned(config, model)
        change = self._compared(config, compiled) if candidate.changes_bits else None
        seconds: dict[str, float] = {}
        stats = NOTHING
        for _ in range(self.repeats):
            for part, (took, counted) in self._nights(config, compiled).items():
                seconds[part] = seconds.get(part, 0.0) + took
                stats += counted
        rows = self.sample.rows * self.repeats
        if stats.bad_row_count >= stats.rows:
            raise KvsparkError(f"none of the {rows:,} rows of the sample can be scored")
        parts = {part: rows / took for part, took in seconds.items()}
        total = rows * len(seconds) / sum(seconds.values())
        computed = sum(stage.seconds_compute for stage in stats.stages.values())
        return Measured(total, parts, change, tuple(sorted(stats.degraded)), computed / rows)

    def _model(self, config: JobConfig, candidate: Candidate) -> Model:
        """The model of `config`; opened once for each dtype, which takes long."""
        if not any(trail[0] == "model" for trail in candidate.sets):
            return self._given
        dtype, shapes = config.model.dtype, config.model.micro_batch
        if dtype not in self._models:
            plain = config.model.model_copy(update={"micro_batch": None})
            self._models[dtype] = open_model(config.model_copy(update={"model": plain}))
        model = self._models[dtype]
        return model if shapes is None else model.with_micro_batch(shapes.value())

    def _planned(self, config: JobConfig, model: Model) -> CompiledPlan:
        """The candidate's plan, with the stages cached that the job as it is caches: what was measured holds for all."""
        plan, given = plan_of(config, model.bundle), self._compiled.plan.stages
        stages = {
            name: replace(stage, cached=given[name].cached, share=given[name].share)
            for name, stage in plan.stages.items()
        }
        return CompiledPlan.of(model.bundle, plan.with_stages(stages))

    def _nights(
        self, config: JobConfig, compiled: CompiledPlan
    ) -> dict[str, tuple[float, RunStats]]:
        if self._store is None or config.cache is None:
            return {COMPUTE: self._scored(config, compiled.uncached(), None)}
        with closing(self._store.empty(config.cache)) as cache:
            return {part: self._scored(config, compiled, cache) for part in (FIRST, NEXT)}

    def _scored(
        self, config: JobConfig, compiled: CompiledPlan, cache: Cache | None
    ) -> tuple[float, RunStats]:
        """The seconds of the sample, and what its tasks counted."""
        spark = self._sessions.spark
        spec = task_spec(spark, compiled, cache)
        # Nothing that a worker kept of another measurement is found again.
        spec = replace(spec, key=digest("kvspark.tune", [spec.key, repr(perf_counter())]))
        bad_rows: BadRowOutput = (
            NoBadRows() if config.input.on_bad_row == "error" else NullOutputs()
        )
        took = 0.0
        try:
            for name, sample in (("warm-up", self.warm_up), ("sample", self.sample)):
                rows = self._sessions.rows(f"{name} {sample.rows}", sample.table, sample.schema)
                tally = Tally(spark)
                start = perf_counter()
                df = with_outputs(rows, sample.columns, compiled.bundle, spec, tally, bad_rows)
                df.write.format("noop").mode("overwrite").save()
                took = perf_counter() - start
            return took, tally.stats
        finally:
            spec.shipped.destroy()

    def _compared(self, config: JobConfig, compiled: CompiledPlan) -> float | None:
        """How far outputs of the first rows move; None where this machine cannot compute them.

        Raises:
            LossyCodecError: a prediction is another one, or a number moves by more than the conf allows.
            NotRepeatableError: the candidate's rows hang on each other.
        """
        from kvspark.infer.checks.changed_outputs import changed_output
        from kvspark.infer.checks.preflight import preflight
        from kvspark.infer.predict.predict_apart import good_rows
        from kvspark.infer.predict.predictor import Predictor

        if compiled.device != CPU and not has_gpu():
            return None
        if not self._rows:
            given = Predictor(self._compiled)
            self._rows = good_rows(given, self.sample.first(COMPARED_ROWS).arrays)
            self._outputs = given.predict(self._rows)
        rows = self._rows
        threads = int(self._sessions.setting(TASK_CPUS, "1"))
        preflight(compiled, rows, threads=threads, device=compiled.device)
        made = Predictor(compiled, threads=threads, device=compiled.device).predict(rows)
        found = [
            changed_output(spec, self._outputs[spec.name], made[spec.name])
            for spec in compiled.bundle.outputs
        ]
        error, most = max(each.error for each in found), config.plan.lossy_tolerance
        refused = next((each.refused for each in found if each.refused is not None), None)
        if refused is not None:
            raise LossyCodecError(f"{refused} among the first rows")
        if error > most:
            raise LossyCodecError(
                f"outputs change by up to {error:.2g} of their largest number, and plan.lossy_tolerance is {most:g}"
            )
        return error
