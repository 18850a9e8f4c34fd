"""Where the last run of a job that reads what was added has stopped reading.

The report of the output that readers find says it: whatever was rolled back or failed, its rows are those up to there.
"""

from __future__ import annotations

import logging
from pathlib import Path

from kvspark.config.job import JobConfig
from kvspark.errors import DataError, UsageError
from kvspark.fingerprint import Fingerprint, digest
from kvspark.spark.publishing.brought_notes import brought_notes
from kvspark.spark.publishing.open_publisher import publisher_of
from kvspark.spark.runs.history import own_runs
from kvspark.spark.runs.run_report import REPORT_FOLDER, read_report
from kvspark.spark.tables.paths import local_path
from kvspark.table.input.growth import Growth

log = logging.getLogger(__name__)

_AMONG_OTHERS = "among others "


def part_published(config: JobConfig, part: str | None) -> str | None:
    """What the report of a run of `config` says of the `part` of its table that it has read.

    Whether the output has these rows and no others: a run that keeps rows and does not ask what was removed may leave some.
    """
    keeps = config.output.mode in ("merge", "replace_partitions")
    if part is None or not keeps or config.input.changed_since is not None:
        return part
    return f"{_AMONG_OTHERS}{part}"


def results_of(config: JobConfig, model: Fingerprint) -> str:
    """One text for all that decides the results of a row, in hex: `model`, what it is given, and what becomes of its results."""
    asked = config.model_dump(
        mode="json",
        include={"inputs": True, "outputs": True, "input": {"on_bad_row"}},
        exclude_defaults=True,  # a key that a later release adds changes nothing here
    )
    return digest("kvspark results", [model.hex(), asked, config.plan.rounding]).hex()


def check_results(config: JobConfig, growth: Growth | None, model: Fingerprint) -> None:
    """Does nothing if the rows that stay have the results that a run of `config` with `model` would give them.

    Rows that are only added may have those of the model of their day; the log says so.

    Raises:
        DataError: they have not, and the output is to be that of the whole input.
    """
    if growth is None or growth.results in (None, results_of(config, model)):
        return
    what = (
        f"the rows that stay in {config.output.path} have the results of another model, or of other inputs, outputs, rounding codecs "
        "or input.on_bad_row"
    )
    once = "run once without input.changed_since and with output.mode: replace"
    if growth.merge_by:
        raise DataError(
            f"input.changed_since: {what}; nothing was written, {once}, for which the cache has what did not change"
        )
    log.warning("input.changed_since: %s; to score them too, %s", what, once)


def growth_of(config: JobConfig) -> Growth | None:
    """What a run of `config` reads of its table; None for all of it.

    The run whose rows were added last reads the same again, also if the table has grown.

    Raises:
        DataError: the last run read another input, or its report is damaged.
        UsageError: a run of this id has added rows, and others after it.
        OutputError: the output does not answer.
    """
    if config.input.changed_since is None:
        return None
    publisher = publisher_of(config)
    if publisher is None:
        return _growth(config, local_path(config.output.path, what="output path"))
    with brought_notes(publisher) as notes:
        growth = _growth(config, notes)
        if growth is None and publisher.current() is not None:
            raise DataError(
                f"input.changed_since: {config.output.path} has rows, and there is no report of a run, so it is not known what "
                "was read; nothing was written, run once without input.changed_since and with output.mode: replace"
            )
        return growth


def _growth(config: JobConfig, notes: Path) -> Growth | None:
    output, report = config.output.path, read_report(notes / REPORT_FOLDER)
    by = config.output.merge_by
    if report is None:
        return None
    if report.input_version is None or tuple(report.inputs) != config.input.named:
        raise DataError(
            f"input.changed_since: the last run of {output} read no version of {', '.join(config.input.named)}; nothing was "
            "written, run once without input.changed_since and with output.mode: replace"
        )
    part = report.input_part
    if by and part is not None and part.startswith(_AMONG_OTHERS):
        raise DataError(
            f"input.changed_since: the last run of {output} kept rows without asking which ones the input has no more, so nobody "
            "knows them; nothing was written, run once without input.changed_since and with output.mode: replace"
        )
    part = None if part is None else part.removeprefix(_AMONG_OTHERS)
    if report.run_id == config.run_id():
        return Growth(report.input_since, report.input_version, part, by, report.results_digest)
    if any(run.run_id == config.run_id() for run in own_runs(notes)):
        raise UsageError(
            f"input.changed_since: run {config.run_id()} has added rows to {output}, and {report.run_id} after it; nothing was "
            "written, go back to the output of that run (kvspark rollback), or give this run another id or date"
        )
    return Growth(report.input_version, None, part, by, report.results_digest)
