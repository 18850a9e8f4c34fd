"""The versions of a Delta table that kvspark published: how one follows another, and what is removed of the rest."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import TypeAlias, final

from kvspark.errors import OutputError
from kvspark.fault import fault_point
from kvspark.table.delta.log import DeltaLog
from kvspark.table.delta.snapshot import Snapshot
from kvspark.table.publish.added_runs import RUNS_NOTE, AddedRuns
from kvspark.table.publish.files.table_files import RUNS, TableFiles, is_note, is_report
from kvspark.table.publish.pointer import Pointer
from kvspark.table.publish.publisher import Attempt, Published

log = logging.getLogger(__name__)

_WAITS_S = (0.0, 0.0, 0.5, 2.0, 5.0)
"""Before each try of a commit; other writers may commit at any time."""

_AT = "@v"
"""Between the URL of a table and a version, as Spark reads it."""

PointerOf: TypeAlias = Callable[["Snapshot | None"], Pointer]
"""The next pointer; it raises where there may be none."""
Change: TypeAlias = Callable[["Snapshot | None", Pointer], None]
"""The commit that says so."""


@final
class DeltaVersions:
    """The versions of one table. Methods raise OSError where the log or the files cannot be read or written."""

    def __init__(
        self, table_log: DeltaLog, files: TableFiles, *, owner: str | None, keep: int
    ) -> None:
        self._log = table_log
        self._files = files
        self._owner = owner
        self._keep = keep

    def change(self, pointer_of: PointerOf, change: Change) -> tuple[int, Pointer]:
        """The version of the log that has the next pointer, and that, once it is committed.

        Raises:
            OSError: it cannot be, or other writers were first each time.
        """
        mark = Pointer().mark
        for wait_s in _WAITS_S:
            time.sleep(wait_s)
            there = self._log.read()
            if there is not None and there.pointer is not None and there.pointer.mark == mark:
                return there.version, there.pointer  # it came through, and only its answer was lost
            pointer = replace(pointer_of(there), mark=mark)
            try:
                change(there, pointer)
            except OSError as exc:
                if self._is_still(there):
                    raise
                log.info("another writer was first, or an answer was lost (%s)", exc)
                continue
            return (0 if there is None else there.version + 1), pointer
        raise OSError(f"{self._files.url}: others have written to the table at each of our tries")

    def begun(self, there: Snapshot | None, attempt: str) -> Pointer:
        """The pointer that lets only `attempt` commit."""
        return replace(again(there), owner=self._owner, writer=attempt)

    def given_up(self, there: Snapshot | None, attempt: str) -> Pointer:
        """The pointer by which `attempt` can commit no more."""
        pointer = again(there)
        return replace(pointer, writer=None) if pointer.writer == attempt else pointer

    def published(self, there: Snapshot | None, attempt: Attempt, rows: int) -> Pointer:
        """The pointer to what `attempt` publishes, a table of `rows` rows."""
        made = Published(
            attempt.name,
            attempt.run_id,
            datetime.now(timezone.utc).isoformat(timespec="seconds"),
            self._files.url,
            rows,
        )
        kept = [] if there is None else self._before(there)
        return Pointer(owner=self._owner, current=made, kept=tuple(kept[: self._keep]))

    def restored(self, there: Snapshot | None, version: Published) -> Pointer:
        """The pointer to `version`, which is kept.

        Raises:
            OutputError: it is not.
        """
        kept = () if there is None or there.pointer is None else there.pointer.kept
        if there is None or version.attempt not in {each.attempt for each in kept}:
            raise OutputError(
                f"output path {self._files.url} keeps no output of {version.run_id}; nothing was changed"
            )
        rest = [each for each in self._before(there) if each.attempt != version.attempt]
        current = replace(version, url=self._files.url)
        return replace(again(there), writer=None, current=current, kept=tuple(rest))

    def sweep(
        self,
        attempts: Mapping[str, Sequence[str]],
        pointer: Pointer,
        version: int,
        *,
        point: str,
    ) -> None:
        """Removes what there is of `attempts`, which can commit no more, but for the files of a version that is kept.

        Each has the files that were listed of it. `version` has `pointer`. What other writers have made of it since stays whole, too. `point` is that of faults.
        """
        try:
            needed = self._log.paths(version) | self._log.paths(None)
            for each in pointer.kept:
                needed |= self._log.paths(version_of(each))
            held = self._held(pointer)
        except (OSError, OutputError) as exc:
            log.warning("nothing old is removed below %s: %s", self._files.url, exc)
            return
        published = attempts_in(pointer)
        holders = set(map(attempt_of, needed))
        for name, files in attempts.items():
            if name in holders or name in held or name in published:
                self._remove_unneeded(name, files, needed)
                if name not in published and (notes := [*filter(is_note, files)]):
                    self._remove_notes(name, notes, is_held=name in held)
            else:
                log.info("removed what is left of %s below %s", name, self._files.url)
                self._files.remove(name)
            fault_point(point)

    def _held(self, pointer: Pointer) -> set[str]:
        """The attempts whose rows are in a version; they may have had none, but bad ones."""
        notes = (self._files.note(name, RUNS_NOTE) for name in attempts_in(pointer))
        runs = (AddedRuns.from_bytes(note, self._files.url) for note in notes if note is not None)
        return {name for each in runs for name in each.files}

    def _remove_notes(self, attempt: str, notes: Sequence[str], *, is_held: bool) -> None:
        if not is_held:
            self._files.remove_notes(attempt)
        elif any(map(is_report, notes)):
            self._files.remove_reports(attempt)

    def _remove_unneeded(self, attempt: str, files: Iterable[str], needed: set[str]) -> None:
        rows = (name for name in files if not is_note(name))
        unneeded = [name for name in rows if f"{RUNS}/{attempt}/{name}" not in needed]
        if unneeded:
            self._files.delete(attempt, unneeded)

    def _before(self, there: Snapshot) -> list[Published]:
        """What can be restored once something else is current, the newest first."""
        pointer = there.pointer or Pointer()
        at = f"{self._files.url}{_AT}{there.version}"
        if pointer.current is not None:
            return [replace(pointer.current, url=at), *pointer.kept]
        if not there.has_files():
            return [*pointer.kept]
        foreign = f"version {there.version}"
        return [
            Published(foreign, foreign, there.written_at(), at, there.rows()),
            *pointer.kept,
        ]

    def _is_still(self, there: Snapshot | None) -> bool:
        now = self._log.read()
        return (None if now is None else now.version) == (None if there is None else there.version)


def again(there: Snapshot | None) -> Pointer:
    """The pointer of `there`, for another commit."""
    return Pointer() if there is None or there.pointer is None else there.pointer


def attempts_in(pointer: Pointer | None) -> Sequence[str]:
    """The attempts whose output is current or kept."""
    versions = () if pointer is None else (pointer.current, *pointer.kept)
    return [each.attempt for each in versions if each is not None]


def attempt_of(path: str) -> str:
    """The attempt that wrote the file at `path` in the table; no name of one for files of others."""
    folder, _, rest = path.partition("/")
    return rest.partition("/")[0] if folder == RUNS else ""


def version_of(version: Published) -> int:
    """The version of the log that has what `version` published."""
    return int(version.url.rpartition(_AT)[2])
