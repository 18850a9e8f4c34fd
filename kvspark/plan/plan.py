"""Which stages are looked up and stored, and how misses are gathered: a plain frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import final

from kvspark.cache.entry.lossy import lossy_named
from kvspark.display import heading, table
from kvspark.errors import UsageError
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.stage.stage import Stage
from kvspark.spec import MicroBatch

CHEAP_BYTES = 256 << 10
"""Of a stage on vectors: its weights and its graph. 65,000 weights are 130,000 operations
a row, about what a look-up cost when both were measured (D22)."""


@final
@dataclass(frozen=True, slots=True)
class StagePlan:
    """What the cache does for one stage."""

    cached: bool
    """Looked up before it is computed, and stored afterwards."""
    codec: str = "raw"
    """How entries are written. A lossy one (`kvspark.cache.entry.lossy`) also rounds what the run goes on with,
    with or without a cache."""
    share: float = 1.0
    """The share of distinct rows that are remembered, the same ones every night; the others are
    neither stored nor looked up."""
    finds_equal_rows: bool | None = None
    """Whether rows that are equal are computed once; None: not where a row takes less than a microsecond by the
    rule for the rows of a call, unless it is a tower's. A stage whose rows are looked up finds them in any case."""
    why: str = field(default="", compare=False)
    """Of a measured plan: why it is so, in the words of `kvspark plan`."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"share must be above 0 and at most 1, got {self.share}")

    @property
    def told(self) -> str:
        """What the cache does for the stage, in words: `cached, bf16, 40 % of rows`."""
        codec = "" if self.codec == "raw" else self.codec
        if not self.cached:
            return f"computed, {codec}" if codec else "computed"
        share = "" if self.share >= 1 else f"{self.share:.0%} of rows"
        return ", ".join(word for word in ("cached", codec, share) if word)


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """What a predictor does with each stage."""

    stages: Mapping[str, StagePlan] = field(default_factory=dict)
    """By stage; a stage that is not named gets the default: cached if it gives the outputs, or if it
    is no feature stage and its results have a fixed size. Not so what cached towers are joined by, if
    computing it takes less than looking it up: a product of two vectors, a small MLP."""
    micro_batch: MicroBatch | None = None
    """Other shapes than the model's own; they change its fingerprints."""
    max_pending_rows: int = 4096
    """Distinct misses that are gathered before they are computed: a window of 32 rows a micro-batch
    and some 20 length buckets then pads less than one row in ten."""
    max_held_bytes: int = 128 << 20
    """Bytes of batches and results that wait for a pending row before it is computed."""
    distinct_first: tuple[str, ...] = ()
    """Stages that a Spark job computes for the distinct values of their inputs before it scores rows,
    so that no two workers compute one of them at the same time."""
    memo_bytes: int = 64 << 20
    """Bytes of a worker's memory that hold the latest results of towers: of stages that some of the
    model's inputs do not reach, so that they are asked for again and again."""
    watch: bool = True
    """A stage whose look-ups and inserts cost more than they save is computed without them for a while."""
    short_calls: bool | None = None
    """The last call of a group has fewer rows than a micro-batch, where that was shown to give the same bits; None:
    with a cache, which remembers what was tried."""
    lossy_tolerance: float = 0.02
    """What a lossy codec may change of an output in the probe, as a part of its largest number."""

    def __repr__(self) -> str:
        stages = [f"{name}: {stage.told}" for name, stage in self.stages.items()]
        return f"Plan({', '.join([*stages, *self._settings()])})"

    def _repr_html_(self) -> str:
        has_reasons = any(stage.why for stage in self.stages.values())
        head = ("stage", "cache", "why") if has_reasons else ("stage", "cache")
        rows = [(n, s.told, s.why)[: len(head)] for n, s in self.stages.items()]
        return heading("Plan", *self._settings()) + table(head, rows, texts=len(head))

    def _settings(self) -> list[str]:
        """What is not as it is by default, `name=value` each."""
        return [
            f"{each.name}={getattr(self, each.name)}"
            for each in fields(self)
            if each.name != "stages" and getattr(self, each.name) != each.default
        ]

    @property
    def lossy(self) -> dict[str, str]:
        """The lossy codecs, by stage."""
        return {n: s.codec for n, s in self.stages.items() if lossy_named(s.codec) is not None}

    def exact(self) -> Plan:
        """This plan without lossy codecs."""
        stages = {n: replace(s, codec="raw") for n, s in self.stages.items() if n in self.lossy}
        return replace(self, stages={**self.stages, **stages})

    def for_bundle(self, bundle: Bundle) -> Plan:
        """This plan with every stage of `bundle` named.

        Raises:
            UsageError: it names a stage that the model does not have.
        """
        names = [stage.name for stage in bundle.stages]
        unknown = [name for name in self.stages if name not in names]
        if unknown:
            raise UsageError(
                f"the plan names stage {unknown[0]!r}; model {bundle.name!r} has {', '.join(names)}"
            )
        stages: dict[str, StagePlan] = {}
        for stage in bundle.stages:
            given = self.stages.get(stage.name)
            stages[stage.name] = given or StagePlan(_is_worth_it(stage, bundle, stages))
        for name in self.distinct_first:
            if name not in stages or not stages[name].cached:
                raise UsageError(
                    f"distinct_first names {name!r}, which is not a stage of {bundle.name!r} that is "
                    f"cached; those are {', '.join(n for n, s in stages.items() if s.cached)}"
                )
        return replace(self, stages=stages)

    def with_stages(self, stages: Mapping[str, StagePlan]) -> Plan:
        """This plan with `stages` for its stages; one that is no longer cached is not computed first."""
        first = tuple(name for name in self.distinct_first if stages[name].cached)
        return replace(self, stages=stages, distinct_first=first)

    def uncached(self) -> Plan:
        """This plan with no stage cached, and exact."""
        exact = self.exact()
        return exact.with_stages({n: replace(s, cached=False) for n, s in exact.stages.items()})


def check_plan(plan: object) -> None:
    """Does nothing if `plan` is a Plan, or None.

    Raises:
        UsageError: it is neither; says what it is, and how to make one.
    """
    if plan is not None and not isinstance(plan, Plan):
        raise UsageError(
            f"plan must be a kvspark.Plan, got {type(plan).__name__}; make one with kvspark.measured_plan(rows, model, "
            'cache=...), or write Plan({"a stage": StagePlan(cached=True)})'
        )


def _is_worth_it(stage: Stage, bundle: Bundle, before: Mapping[str, StagePlan]) -> bool:
    if stage is bundle.stages[-1]:
        return not _is_cheap_joint(stage, bundle, before)
    return stage.is_batched and stage.bytes_per_row is not None


def _is_cheap_joint(stage: Stage, bundle: Bundle, before: Mapping[str, StagePlan]) -> bool:
    """True if `stage` takes nothing but vectors of cached towers, and has little to do with them."""
    upstream = [s for s in bundle.stages if s.name in stage.upstream]
    sizes = [bundle.files[file]["size_bytes"] for file in bundle.stage_files[stage.name]]
    return (
        all(s.stage is not None and s.tensor.is_fixed for s in stage.sources)
        and all(len(source.tensor.shape) <= 1 for source in stage.sources)
        and all(before[s.name].cached and set(s.inputs) < set(stage.inputs) for s in upstream)
        and sum(sizes) <= CHEAP_BYTES
    )
