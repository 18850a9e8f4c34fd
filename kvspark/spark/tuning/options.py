"""Which settings of a job are searched, and which of their values change bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from kvspark.cache.entry.lossy import LOSSY_NAMES
from kvspark.config.job import JobConfig
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.model.stage.stage import Stage
from kvspark.spark.tuning.trial_session import ARROW_ROWS, TASK_CPUS
from kvspark.tune.space import AS_IT_IS, Choice, Option, Space

if TYPE_CHECKING:
    from kvspark.infer.model import Model

_ARROW_ROWS = (1_000, 4_000, 10_000, 40_000)
_CALL_ROWS = (32, 64, 128, 256, 1_024)
_CALL_TOKENS = (1_024, 2_048, 4_096, 8_192)
_DTYPES = ("float32", "bfloat16", "float16")
_EXACT_CODECS = ("raw", "zstd", "lz4")
_CODED_STAGES = 2
"""Stages whose codec is searched, those of the largest entries: each has a dimension of its own."""
_LEAST_BYTES = 64
"""Of a result that is worth a codec."""
_OVERLAP_BYTES = 32 << 20


@final
@dataclass(frozen=True, slots=True)
class Job:
    """What the options of a job follow from."""

    config: JobConfig
    model: Model
    compiled: CompiledPlan
    cores: int
    """That Spark has for tasks, of one machine."""
    threads: int
    """The CPUs of a task."""
    arrow_rows: int
    """The most rows of an Arrow batch."""
    task_rows: int
    """Rows of the sample in one task: an Arrow batch has no more."""
    has_store: bool
    """False without a cache, and where its store cannot be used."""
    is_own_session: bool
    """False where somebody else's session is used, which is not stopped."""


def space_of(job: Job, *, allows_other_bits: bool) -> Space:
    """All that is searched; without what changes bits unless that is allowed."""
    made: list[Option] = []
    for option in _options(job):
        kept = tuple(c for c in option.choices if allows_other_bits or not c.changes_bits)
        if len(kept) > 1:
            made.append(Option(option.name, kept))
    return Space(tuple(made))


def _options(job: Job) -> Iterator[Option]:
    yield _arrow_rows(job)
    yield from _shapes(job)
    yield from _dtype(job)
    if job.has_store and job.config.cache is not None:
        for stage in _coded(job.compiled):
            yield _codec(job, stage)
        yield _overlap(job)
    if job.is_own_session:  # last: each of its values starts a session, which takes seconds
        yield _threads(job)


def _as_is(text: str) -> Choice:
    return Choice(f"{text} ({AS_IT_IS})")


def _threads(job: Job) -> Option:
    now = job.threads
    shapes = job.compiled.bundle.micro_batch
    choices = [_as_is(str(now))]
    threads = 1
    while threads <= job.cores:
        if threads != now:
            # Another number of threads adds in another order, where a call has rows for them.
            differs = shapes.threads(threads) != shapes.threads(now)
            sets = ((("spark", "conf", TASK_CPUS), threads),)
            choices.append(Choice(str(threads), sets, differs))
        threads *= 2
    return Option("threads a task", tuple(choices))


def _arrow_rows(job: Job) -> Option:
    now = job.arrow_rows
    others, seen = [], {min(now, job.task_rows)}
    for rows in _ARROW_ROWS:
        if min(rows, job.task_rows) not in seen:
            others.append(Choice(f"{rows:,}", ((("spark", "conf", ARROW_ROWS), rows),)))
        seen.add(min(rows, job.task_rows))
    return Option("rows of an Arrow batch", (_as_is(f"{now:,}"), *others))


def _shapes(job: Job) -> Iterator[Option]:
    bundle, given = job.compiled.bundle, job.config.model.micro_batch
    if bundle.has_single_rows:  # its rows change each other
        return
    now = "by stage" if given is None else str(given.rows)
    trail = ("model", "micro_batch", "rows")
    others = [
        Choice(str(rows), ((trail, rows),), changes_bits=True)
        for rows in _CALL_ROWS
        if given is None or rows != given.rows
    ]
    yield Option("rows of a call", (_as_is(now), *others))
    if any(stage.has_lengths for stage in bundle.stages):
        tokens = bundle.micro_batch.tokens
        trail = ("model", "micro_batch", "tokens")
        others = [
            Choice(f"{each:,}", ((trail, each),), changes_bits=True)
            for each in _CALL_TOKENS
            if each != tokens
        ]
        yield Option("tokens of a call", (_as_is(f"{tokens:,}"), *others))


def _dtype(job: Job) -> Iterator[Option]:
    from kvspark.infer.open_model import is_pretrained

    given = job.config.model
    if not is_pretrained(Path(given.path)):
        return
    now = given.dtype
    others = [
        Choice(dtype, ((("model", "dtype"), dtype),), changes_bits=True)
        for dtype in _DTYPES
        if dtype != (now or "float32")
    ]
    yield Option("dtype", (_as_is(now or "the folder's"), *others))


def _coded(compiled: CompiledPlan) -> list[Stage]:
    """The cached stages of the largest entries, in the model's order."""
    sizes = {
        stage.name: float("inf") if stage.bytes_per_row is None else stage.bytes_per_row
        for stage in compiled.bundle.stages
        if compiled.plan.stages[stage.name].cached
    }
    names = sorted((n for n in sizes if sizes[n] >= _LEAST_BYTES), key=lambda n: -sizes[n])
    return [stage for stage in compiled.bundle.stages if stage.name in names[:_CODED_STAGES]]


def _codec(job: Job, stage: Stage) -> Option:
    now = job.compiled.plan.stages[stage.name].codec
    is_lossy = now in LOSSY_NAMES
    at = ("plan", "stages", stage.name)
    said = () if stage.name in job.config.plan.stages else (((*at, "cached"), True),)
    others = [
        Choice(codec, (*said, ((*at, "codec"), codec)), is_lossy or codec in LOSSY_NAMES)
        for codec in (*_EXACT_CODECS, *LOSSY_NAMES)
        if codec != now
    ]
    return Option(f"codec of {stage.name}", (_as_is(now), *others))


def _overlap(job: Job) -> Option:
    assert job.config.cache is not None
    now = job.config.cache.overlap_bytes
    trail = ("cache", "overlap_bytes")
    if now is not None:
        off = Choice("off", ((trail, None),))
        return Option("overlap with the store", (_as_is(f"{now >> 20} MiB"), off))
    on = Choice(f"{_OVERLAP_BYTES >> 20} MiB", ((trail, _OVERLAP_BYTES),))
    return Option("overlap with the store", (_as_is("off"), on))
