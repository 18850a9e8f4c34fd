"""The dry run of a job: everything that a run opens is looked at, and nothing is written.

All faults are told that can be found, not only the first. What needs no Spark comes first; a session is
opened only for a job without a fault so far, and reads, as the run would, through its filter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from kvspark.cache.doctor.finding import Finding, size_text
from kvspark.config.job import JobConfig
from kvspark.errors import KvsparkError, UsageError
from kvspark.plan.plan import Plan
from kvspark.spark.check.cache import cache_findings
from kvspark.spark.check.columns import column_faults
from kvspark.spark.check.decided import decider
from kvspark.spark.check.opened import open_model, plan_of
from kvspark.spark.check.rows import row_findings
from kvspark.spark.columns.column_map import ColumnMap, column_map
from kvspark.spark.publishing.last_run import check_results, growth_of
from kvspark.spark.publishing.open_target import open_target
from kvspark.spark.session.failure import explained, expressions_of
from kvspark.spark.sources.find_input import find_input, input_roots
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.table.input.growth import Growth
from kvspark.wording import count_of

if TYPE_CHECKING:
    from kvspark.infer.model import Model


@final
@dataclass(frozen=True, slots=True)
class Looked:
    """One thing that was looked at."""

    finding: Finding
    error: KvsparkError | None = None
    """What the run would fail with."""


def fault(what: str, error: KvsparkError) -> Looked:
    """The finding that a run would fail with `error`."""
    return Looked(Finding("bad", what, error.line()), error)


def check_job(config: JobConfig, *, opens_session: bool = True) -> Iterator[Looked]:
    """What a run of `config` would find, in the order in which it is looked at; writes nothing.

    Without `opens_session`, where there is no Java say, its rows are not looked at.
    """
    return _Check(config, is_right=opens_session).found()


_BECOMES = {
    "replace": "replaced",
    "append": "added to",
    "replace_partitions": "replaced in the partitions of the run",
    "merge": "merged into",
}
"""What an output is that is there."""


@final
class _Check:
    """One dry run."""

    def __init__(self, config: JobConfig, *, is_right: bool) -> None:
        self._config = config
        self._model: Model | None = None
        self._columns: ColumnMap | None = None
        self._plan: Plan | None = None
        self._growth: Growth | None = None
        self._found: FoundInput | None = None
        self._is_right = is_right

    def found(self) -> Iterator[Looked]:
        """Each finding as it is made."""
        steps: list[tuple[str, Callable[[], Iterator[Looked]]]] = [
            # What is known at once comes before the model, which may take a minute to open.
            ("input", self._open_input),
            ("output", self._check_output),
            ("cache", self._check_cache),
            ("model", self._open_model),
            ("inputs and outputs", self._map_columns),
            ("plan", self._make_plan),
            ("column", self._check_columns),
            ("rows", self._check_rows),
        ]
        for what, step in steps:
            for looked in self._told(what, step):
                self._is_right &= looked.error is None
                yield looked

    def _open_model(self) -> Iterator[Looked]:
        self._model = model = open_model(self._config)
        inputs = ", ".join(spec.name for spec in model.inputs)
        outputs = ", ".join(spec.name for spec in model.outputs)
        got = f"{model.name} {model.fingerprint.hex()[:12]}, {inputs} -> {outputs}"
        yield Looked(Finding("ok", "model", got))

    def _map_columns(self) -> Iterator[Looked]:
        if self._model is not None:
            bundle = self._model.bundle
            check_results(self._config, self._growth, self._model.fingerprint)
            self._columns = column_map(bundle, self._config.inputs, self._config.outputs)
        yield from ()

    def _make_plan(self) -> Iterator[Looked]:
        if self._config.cache is None and self._config.run.require_cache:
            raise UsageError("run.require_cache is on and there is no cache; name one in cache.url")
        if self._model is None:
            return
        self._plan = plan_of(self._config, self._model.bundle)
        if self._config.cache is None:
            yield Looked(Finding("ok", "plan", "nothing is remembered: the conf has no cache"))
            return
        for stage in self._model.stages:
            planned = self._plan.stages[stage.name]
            size = stage.bytes_per_row
            told = "varying sizes" if size is None else f"{size_text(size)} a row"
            how = f"cached as {planned.codec}, {told}" if planned.cached else "not cached"
            how = f"{how} ({decider(self._config, stage.name)})"
            yield Looked(Finding("ok", f"plan, stage {stage.name}", how))

    def _open_input(self) -> Iterator[Looked]:
        self._growth = growth_of(self._config)
        # Without columns: those that are missing are all told, by `_check_columns`.
        self._found = found = find_input(
            self._config.input,
            settings=self._config.spark.conf,
            columns=[],
            growth=self._growth,
        )
        got = count_of(len(found.files), "file")
        if found.rows is not None:
            got += f" with {count_of(found.rows, 'row')}"
        if found.version is not None:
            since = "" if found.since is None else f", what is new since {found.since}"
            got += f" ({found.version}{since})"
        if self._config.input.filter is not None:
            got += " before the filter"
        yield Looked(Finding("ok", "input", got))

    def _check_columns(self) -> Iterator[Looked]:
        if self._model is None or self._columns is None or self._found is None:
            return
        faults = column_faults(self._config, self._found, self._columns, self._model.bundle)
        for error in faults:
            yield fault("column", error)

    def _check_cache(self) -> Iterator[Looked]:
        if self._config.cache is None:
            return
        for finding, error in cache_findings(self._config.cache, self._config.run):
            yield Looked(finding, error)

    def _check_output(self) -> Iterator[Looked]:
        try:
            inputs = input_roots(self._config.input)
        except KvsparkError:
            inputs = []  # told of the input
        target = open_target(self._config, inputs=inputs)
        got = _BECOMES[self._config.output.mode] if target.is_there else "new"
        yield Looked(Finding("ok", "output", f"{target.url} ({got})"))

    def _check_rows(self) -> Iterator[Looked]:
        if not self._is_right:
            yield Looked(
                Finding(
                    "unseen", "rows", "not looked at: no session is opened for a job that fails"
                )
            )
            return
        assert self._model is not None
        assert self._columns is not None
        assert self._plan is not None
        for finding, error in row_findings(self._config, self._model, self._columns, self._plan):
            yield Looked(finding, error)

    def _told(self, what: str, step: Callable[[], Iterator[Looked]]) -> Iterator[Looked]:
        """What `step` finds, and what it fails with as its last finding."""
        try:
            yield from step()
        except KvsparkError as error:
            yield fault(what, error)
        except Exception as exc:  # what Spark raises has no root of its own
            told = explained(exc, expressions_of(self._config))
            if told is None:
                raise
            yield fault(what, told)
