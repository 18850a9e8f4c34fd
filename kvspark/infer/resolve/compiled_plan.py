"""A model and a plan that fit each other: what is normalised is normalised here, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from kvspark.cache.entry.lossy import lossy_named
from kvspark.fingerprint import Fingerprint, digest
from kvspark.infer.resolve.stage_codec import StageCodec, stage_codec
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.run.device import CPU, device_class
from kvspark.model.stage.rows_of_call import MOST_ROWS
from kvspark.model.stage.stage import Stage
from kvspark.plan.plan import Plan, StagePlan


@final
@dataclass(frozen=True, slots=True)
class CompiledStage:
    """One stage, and what the plan does with it."""

    stage: Stage
    plan: StagePlan
    codec: StageCodec
    """Between its results and its entries."""
    upstream: tuple[Stage, ...]
    """The stages whose results it takes."""
    lineage: tuple[str, ...]
    """Its own name, and those of all stages before it."""
    rounding: bytes
    """What its identity says of the lossy codecs of its lineage; nothing where all are exact."""

    def finds_equal_rows(self, *, remembers: bool) -> bool:
        """True if equal rows are to be found though nothing is looked up; a tower `remembers` its rows."""
        planned = self.plan.finds_equal_rows
        return remembers or self.stage.rows != MOST_ROWS if planned is None else planned

    def identity(self, place: bytes) -> bytes:
        """What names its results at `place`, which says what else decides bits there."""
        return self.stage.fingerprint + place + self.rounding


@final
@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """What every row of a call is computed with; made by `compiled_plan`."""

    bundle: Bundle
    """In the shapes of the plan, its graph stages on the class of device that was chosen."""
    plan: Plan
    """Every stage is named."""
    stages: Mapping[str, CompiledStage]
    """In topological order."""

    @classmethod
    def of(cls, bundle: Bundle, plan: Plan) -> CompiledPlan:
        """The compiled form of parts that fit each other already: a worker's, from its driver."""
        stages: dict[str, CompiledStage] = {}
        lossy: dict[str, tuple[Fingerprint, str]] = {}
        for stage in bundle.stages:
            name, planned = stage.name, plan.stages[stage.name]
            upstream = [stages[source] for source in stage.upstream]
            before = [each for source in upstream for each in source.lineage]
            lineage = tuple(dict.fromkeys([name, *before]))
            if lossy_named(planned.codec) is not None:
                lossy[name] = stage.fingerprint, planned.codec
            rounding = _rounding([lossy[each] for each in lineage if each in lossy])
            codec = stage_codec(stage, planned.codec)
            stages[name] = CompiledStage(
                stage, planned, codec, tuple(each.stage for each in upstream), lineage, rounding
            )
        return cls(bundle, plan, stages)

    @property
    def device(self) -> str:
        """Where graph stages are computed, if nobody says which device of the class."""
        return self.bundle.device or CPU

    def uncached(self) -> CompiledPlan:
        """With no stage cached, and exact."""
        return CompiledPlan.of(self.bundle, self.plan.uncached())


def _rounding(codecs: Sequence[tuple[Fingerprint, str]]) -> bytes:
    """What tells results that come from fewer bits, by codecs of these stages, from exact ones."""
    if not codecs:
        return b""
    by_stage = {fingerprint.hex(): codec for fingerprint, codec in codecs}
    return digest("kvspark.lossy", dict(sorted(by_stage.items())))


def compiled_plan(
    bundle: Bundle, plan: Plan | None = None, *, device: str | None = None
) -> CompiledPlan:
    """What `plan`, by default the plan of rule, makes of the model `bundle` on a device of the class of `device`.

    Raises:
        UsageError: the plan does not fit the model.
    """
    plan = plan or Plan()
    if plan.micro_batch is not None and not bundle.is_in(plan.micro_batch):
        bundle = bundle.with_micro_batch(plan.micro_batch)
    if device is not None and device_class(device) != (bundle.device or CPU):
        bundle = bundle.with_device(device_class(device))
    return CompiledPlan.of(bundle, plan.for_bundle(bundle))
