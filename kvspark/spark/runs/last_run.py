"""Where the last run of a job that reads what was added has stopped reading.

The report of the output that readers find says it: whatever was rolled back or failed, its rows are those up to there.
"""

from __future__ import annotations

from kvspark.config.job import JobConfig
from kvspark.errors import DataError, UsageError
from kvspark.spark.runs.history import own_runs
from kvspark.spark.runs.run_report import REPORT_FOLDER, read_report
from kvspark.spark.tables.paths import local_path
from kvspark.table.input.growth import Growth


def growth_of(config: JobConfig) -> Growth | None:
    """What a run of `config` reads of its table; None for all of it.

    The run whose rows were added last reads the same again, also if the table has grown.

    Raises:
        DataError: the last run read another input, or its report is damaged.
        UsageError: a run of this id has added rows, and others after it.
    """
    if config.input.changed_since is None:
        return None
    output = local_path(config.output.path, what="output path")
    report = read_report(output / REPORT_FOLDER)
    if report is None:
        return None
    if report.input_version is None or tuple(report.inputs) != config.input.named:
        raise DataError(
            f"input.changed_since: the last run of {output} read no version of {', '.join(config.input.named)}; nothing was "
            "written, run once without input.changed_since and with output.mode: replace"
        )
    if report.run_id == config.run_id():
        return Growth(report.input_since, report.input_version, report.input_part)
    if any(run.run_id == config.run_id() for run in own_runs(output)):
        raise UsageError(
            f"input.changed_since: run {config.run_id()} has added rows to {output}, and {report.run_id} after it; nothing was "
            "written, go back to the output of that run (kvspark rollback), or give this run another id or date"
        )
    return Growth(report.input_version, None, report.input_part)
