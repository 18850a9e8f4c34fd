"""Outputs that have been replaced, and where they are until somebody wants them back.

    <parent>/.kvspark-<name>/kept/<time>       outputs of the job, the last `output.keep` of them
    <parent>/_replaced-<name>-<time>           what was not ours (`output.overwrite`): never deleted

Names that start with `.`, or with `_` and have no `=`, are skipped by Spark, pyarrow and Hive: who reads
the parent as one table does not read an old output with it. The times are UTC, and no two are equal.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import final

from kvspark.fingerprint import digest
from kvspark.spark.output.manifest import read_manifest
from kvspark.spark.output.occupant import files_added, occupant_of, report_in

log = logging.getLogger(__name__)

_KEPT = "kept"
_TIME = "%Y%m%dT%H%M%S.%fZ"
_MICROSECOND = timedelta(microseconds=1)


@final
@dataclass(frozen=True, slots=True)
class Version:
    """One output that was replaced."""

    path: Path
    replaced_at: datetime
    run_id: str | None
    """None for what no run of this job wrote."""
    started_at: str | None
    """When its run started; UTC, ISO 8601."""
    rows: int | None

    @property
    def label(self) -> str:
        """What a person calls it: its run id, or the name of its folder."""
        return self.run_id or self.path.name

    def missing(self) -> list[str]:
        """Its files that are gone or were changed."""
        manifest = read_manifest(self.path)
        return [] if manifest is None else manifest.lost(self.path)


@final
class Versions:
    """The replaced outputs of one target. Everything that writes is only for who holds its lock."""

    def __init__(self, folder: Path, *, target: Path, owner: str | None) -> None:
        """The versions of `target`, of the job `owner`; `folder` is its own folder beside it."""
        self._kept = folder / _KEPT
        self._target = target
        self._owner = owner
        self._prefix = f"_replaced-{_safe(target.name)}-"

    def listed(self) -> list[Version]:
        """All of them, the one that was replaced last first."""
        found = [*self._found(self._kept, ""), *self._found(self._target.parent, self._prefix)]
        return sorted(found, key=lambda version: version.replaced_at, reverse=True)

    def settle(self, displaced: Path) -> None:
        """Puts what had the target's place where it is kept.

        By what it is now: a file that somebody added a moment ago makes it foreign, and so it stays.
        """
        occupant = occupant_of(displaced, target=self._target, owner=self._owner)
        if occupant.is_empty:
            displaced.rmdir()
        elif occupant.is_ours:
            self._kept.mkdir(exist_ok=True)
            displaced.rename(self._kept / self._time())
        else:
            self.set_aside(displaced, occupant.looks)

    def set_aside(self, folder: Path, looks: str) -> Path:
        """Puts `folder`, which is not ours to delete, beside the target; its new place."""
        place = self._target.with_name(f"{self._prefix}{self._time()}")
        folder.rename(place)
        log.warning("%s had %s in its place; it is kept as %s", self._target, looks, place)
        return place

    def surplus(self, keep: int) -> list[Path]:
        """The outputs of the job that are beyond the last `keep`, and may be deleted.

        One to which somebody has added files is put beside the target instead.
        """
        may_go = []
        for version in sorted(self._found(self._kept, ""), key=_replaced_at, reverse=True)[keep:]:
            report = report_in(version.path)
            if report is None or files_added(version.path, report):
                self.set_aside(version.path, "an old output that somebody has changed")
            else:
                may_go.append(version.path)
        return may_go

    def tidy(self) -> None:
        """Removes the folder of kept versions if it is empty."""
        with contextlib.suppress(OSError):
            self._kept.rmdir()

    def _time(self) -> str:
        now = datetime.now(timezone.utc)
        last = next((version.replaced_at for version in self.listed()), now - _MICROSECOND)
        return max(now, last + _MICROSECOND).strftime(_TIME)

    def _found(self, folder: Path, prefix: str) -> Iterator[Version]:
        for path in folder.glob(f"{prefix}*") if folder.is_dir() else ():
            try:
                time = datetime.strptime(path.name.removeprefix(prefix), "%Y%m%dT%H%M%S.%f%z")
            except ValueError:  # somebody's own file
                continue
            if path.is_dir() and not path.is_symlink():
                report = report_in(path) if prefix == "" else None
                yield Version(
                    path,
                    time,
                    None if report is None else report["run_id"],
                    None if report is None else report["started_at"],
                    None if report is None else report["rows_out"],
                )


def _replaced_at(version: Version) -> datetime:
    return version.replaced_at


def _safe(name: str) -> str:
    """`name` without what Spark, Hive or a glob gives a meaning; no two names become one."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:100]
    return safe if safe == name else f"{safe}-{digest('kvspark target', name).hex()[:6]}"
