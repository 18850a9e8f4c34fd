"""Going back to an output that was replaced. Needs no Spark: files on the driver's machine only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from kvspark.config.job import JobConfig
from kvspark.errors import OutputError, UsageError
from kvspark.fault import fault_point
from kvspark.spark.jobs.publisher_rollback import roll_back, version_lines
from kvspark.spark.output.job_target import target_of
from kvspark.spark.output.occupant import report_in
from kvspark.spark.output.run_lock import ROLLBACK
from kvspark.spark.output.target import Target
from kvspark.spark.output.versions import Version
from kvspark.spark.publishing.interrupted import interrupted_rollback
from kvspark.spark.publishing.open_publisher import publisher_of
from kvspark.spark.session.interrupt import telling
from kvspark.wording import count_of


def run_rollback(config: JobConfig, *, to: str | None = None) -> str:
    """One line on what is the output now, once it is.

    It is the output that was replaced last, or that of run `to`. The one whose place it takes becomes
    the newest of those that are kept: going back twice is going forward again. One step for every
    reader, and locked like a run.

    Raises:
        OutputError: there is nothing to go back to, it is not whole, or what is there now is not
            ours; nothing was changed.
        UsageError: no output of run `to` is kept.
        RunLockedError: a run is under way.
    """
    publisher = publisher_of(config)
    if publisher is not None:
        return roll_back(publisher, to)
    target = target_of(config)
    with target.lock(ROLLBACK), telling(lambda: interrupted_rollback(target)):
        fault_point("locked")
        target.recover()
        version = _chosen(target, to)
        before = report_in(target.path)
        target.restore(version)
    left = f", and that of {before['run_id']} is kept" if before else ""
    return f"{target.path} is the output of {version.label} again{left}"


def versions_of(config: JobConfig) -> list[str]:
    """A line for the output and for each one that can be restored, the last replaced first."""
    publisher = publisher_of(config)
    if publisher is not None:
        return version_lines(publisher)
    target = target_of(config)
    report = report_in(target.path)
    lines = [
        f"now                   {report['run_id']}: {count_of(report['rows_out'], 'row')}, started {_time(report['started_at'])}"
        if report
        else f"now                   nothing that a run wrote: {target.path}"
    ]
    versions = target.versions()
    for version in versions:
        when = _time(version.replaced_at)
        told = (
            ""
            if version.rows is None
            else f": {count_of(version.rows, 'row')}, started {_time(version.started_at)}"
        )
        kept = f" (--to {version.path.name})" if _same(versions, version.label) > 1 else ""
        lines.append(f"{when}  {version.label}{told or ': no output of this job'}{kept}")
    return lines


def _chosen(target: Target, to: str | None) -> Version:
    versions = target.versions()
    if not versions:
        raise OutputError(
            f"output path {target.path} has no output to go back to: none was replaced yet, or output.keep "
            "is 0; nothing was changed"
        )
    if to is None:
        return versions[0]
    found = [version for version in versions if to in (version.label, version.path.name)]
    if len(found) > 1:
        raise UsageError(
            f"--to {to} names {len(found)} kept outputs of {target.path}; name one of them as kvspark rollback --list "
            f"does, the newest is --to {found[0].path.name}; nothing was changed"
        )
    if not found:
        raise UsageError(
            f"no output of run {to} is kept for {target.path} (there are: "
            f"{', '.join(dict.fromkeys(version.label for version in versions))}; output.keep says how many are "
            "kept); nothing was changed"
        )
    return found[0]


def _time(moment: datetime | str | None) -> str:
    """A time of a report, ISO 8601 in UTC, or of a folder's name, in the one form of the list."""
    if isinstance(moment, datetime):
        return moment.strftime("%Y-%m-%d %H:%M:%SZ")
    try:
        return _time(datetime.fromisoformat(str(moment)).astimezone(timezone.utc))
    except ValueError:  # a report that somebody has edited
        return str(moment)


def _same(versions: Sequence[Version], label: str) -> int:
    return sum(version.label == label for version in versions)
