"""Going back to a version that a publisher keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kvspark.errors import OutputError, UsageError
from kvspark.spark.output.run_lock import ROLLBACK
from kvspark.wording import count_of

if TYPE_CHECKING:
    from kvspark.table.publish.publisher import Published, Publisher


def roll_back(publisher: Publisher, to: str | None) -> str:
    """One line on what is the output now, once it is; as `run_rollback`.

    Raises:
        OutputError: there is nothing to go back to, or the target refuses; nothing was changed.
        UsageError: no output of run `to` is kept, or several are.
        RunLockedError: a run is under way.
    """
    from kvspark.spark.publishing.locked import locked  # it has pyarrow imported

    with locked(publisher, ROLLBACK):
        before = publisher.current()
        version = _chosen(publisher, to)
        publisher.rollback(version)
    left = f", and that of {before.run_id} is kept" if before else ""
    return f"{publisher.url} is the output of {version.run_id} again{left}"


def version_lines(publisher: Publisher) -> list[str]:
    """A line for the output and for each one that can be restored, the last replaced first."""
    now = publisher.current()
    lines = [f"now  {_line(now)}" if now else f"now  nothing that a run wrote: {publisher.url}"]
    return lines + [f"     {_line(each)} (--to {each.attempt})" for each in publisher.versions()]


def _line(version: Published) -> str:
    return f"{version.run_id}: {count_of(version.rows, 'row')}, published {version.published_at}"


def _chosen(publisher: Publisher, to: str | None) -> Published:
    versions: Sequence[Published] = publisher.versions()
    if not versions:
        raise OutputError(
            f"output path {publisher.url} has no output to go back to: none was replaced yet, or output.keep is 0; "
            "nothing was changed"
        )
    found = [each for each in versions if to in (None, each.run_id, each.attempt)]
    if not found:
        kept = ", ".join(dict.fromkeys(each.run_id for each in versions))
        raise UsageError(
            f"no output of run {to} is kept for {publisher.url} (there are: {kept}); nothing was changed"
        )
    if to is not None and len(found) > 1:
        raise UsageError(
            f"--to {to} names {len(found)} kept outputs of {publisher.url}; the newest is --to {found[0].attempt}; nothing "
            "was changed"
        )
    return found[0]
