"""Where a run's output goes: staged beside the target, published in one step, restorable afterwards.

    <parent>/<name>                                the target, what readers open
    <parent>/.kvspark-<name>/lock                  one run at a time
    <parent>/.kvspark-<name>/<run id>-<token>/     the staged output of one attempt
    <parent>/.kvspark-<name>/<run id>-<token>.*/   what its tasks write: .tasks, .swept, .bad
    <parent>/.kvspark-<name>/displaced/<token>/    for a moment: the staged output, or what it replaces
    <parent>/.kvspark-<name>/previous/             the same, only where two folders cannot be swapped
    <parent>/.kvspark-<name>/kept/<time>/          outputs that were replaced, the last `keep` of them
    <parent>/_replaced-<name>-<time>/              what was there and was not ours; nobody deletes it

The folder beside the target starts with a dot, so Spark's partition discovery and pyarrow skip it
when they read the parent as one table. Every attempt has a folder of its own: the JVM of a killed
driver may write for a moment longer, and must not meet the rerun's files.

Publishing swaps the staged folder and the target in one step (renameat2, RENAME_EXCHANGE: Linux,
local file systems), so a reader sees the old output or the new one, whatever dies, and never both.
Where that call does not exist (other systems, NFS) it takes two renames; a driver that dies between
them leaves no target until the next run starts and puts the old output back. A reader that listed
the old files before the swap can miss them afterwards: it must be started again.

Only folders whose names say that they are staged are ever deleted as leftovers, and what is not ours
is never given such a name: it goes from the target to `displaced/` in the step that publishes, and
from there to its own place, in this run or in the next.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

from kvspark.errors import OutputError
from kvspark.fault import fault_point
from kvspark.spark.output.exchange import exchange as _exchange
from kvspark.spark.output.manifest import write_manifest
from kvspark.spark.output.occupant import occupant_of
from kvspark.spark.output.place import Place, sync
from kvspark.spark.output.run_lock import RunLock
from kvspark.spark.output.target_place import (
    refuse_kind,
    refuse_name,
    refuse_overlap,
    refuse_parent,
    refuse_surrounding,
)
from kvspark.spark.output.versions import Version, Versions
from kvspark.spark.session.interrupt import held
from kvspark.spark.tables.paths import local_path

log = logging.getLogger(__name__)

_STAGED = re.compile(r"(.*-[0-9a-f]{8})(?:\.(?:bad|tasks|swept))?")


@final
class Target:
    """One output folder on a POSIX file system."""

    def __init__(
        self,
        path: str,
        *,
        owner: str | None = None,
        inputs: Sequence[Path] = (),
        needed: Sequence[Path] = (),
        overwrite: bool = False,
        keep: int = 1,
        exchange: Callable[[Path, Path], bool] = _exchange,
    ) -> None:
        """Checks `path` before anything is computed; touches nothing.

        `owner` is the job's name (any job's output is ours without it), `inputs` is what it reads,
        `needed` what else must stay where it is. `overwrite` lets an output take the place of what is
        not ours. `keep` outputs of the job stay restorable when they are replaced.

        Raises:
            UsageError: not a local path, or it overlaps with `inputs` or holds one of `needed`.
            OutputError: a file, a symlink, a mount point, not writable, inside another table, or a
                folder with anything in it that no run of `owner` published there.
        """
        self.path = local_path(path, what="output path")
        self._overwrite = overwrite
        self._owner = owner
        self._keep = keep
        self._folder = self.path.parent / f".kvspark-{self.path.name}"
        self._versions = Versions(self._folder, target=self.path, owner=owner)
        self._place = Place(self.path, self._folder, self._versions, exchange)
        refuse_name(self.path)
        refuse_overlap(self.path, inputs, needed)
        self.check()
        refuse_surrounding(self.path)
        refuse_parent(self.path)

    @property
    def is_published(self) -> bool:
        """True once what was staged is what readers find."""
        return self._place.is_taken

    def check(self) -> None:
        """Does nothing if an output may take the place of what is at the path now.

        Raises:
            OutputError: it may not; says what is there and what to do.
        """
        refuse_kind(self.path)
        if not self.path.exists() or self._overwrite:
            return
        occupant = occupant_of(self.path, target=self.path, owner=self._owner)
        if not (occupant.is_empty or occupant.is_ours):
            raise OutputError(
                f"output path {self.path} is {occupant.looks}, and no output of this job; it is as it "
                "was and nothing was published, name another folder, or set output.overwrite: true "
                f"and it is kept beside the new output, as _replaced-{self.path.name}-..."
            )

    def lock(self, run_id: str) -> RunLock:
        """A lock to hold, with `with`, for the whole of run `run_id`."""
        return RunLock(self._folder, target=self.path, run_id=run_id)

    def recover(self) -> int:
        """Cleans what dead runs left; the number of these. Only under the lock.

        What had the target's place is put where it is kept, and back if the target is gone.
        """
        self._place.recover()
        leftovers = self.staged()
        for item in leftovers:
            _discard(item)
        return len({_STAGED.sub(r"\1", item.name) for item in leftovers})

    def staged(self) -> list[Path]:
        """What was staged and is still there. Only under the lock."""
        there = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(item for item in there if _STAGED.fullmatch(item.name))

    def stage(self, run_id: str) -> Path:
        """A path for this attempt's files; does not exist yet. Only under the lock."""
        # Hadoop's Path takes no colon in a name, and Airflow's run ids have several.
        name = re.sub(r"[^A-Za-z0-9._-]", "_", run_id).strip(".")[:80]
        return self._folder / f"{name}-{secrets.token_hex(4)}"

    def publish(self, staged: Path) -> None:
        """Makes `staged` the target, and keeps what was there. Only under the lock.

        Guarantees: everything staged is on disk before the target changes. Outputs beyond the last
        `keep` are deleted after that, and nothing else is.

        Signals wait until the target has changed.

        Raises:
            OutputError: something that is not ours has come there since, or the file system refused;
                the target is what it was.
        """
        self._place.is_taken = False
        try:
            with held():
                write_manifest(staged)
                _sync(staged)
                fault_point("synced")
                self.check()
                self._place.take(staged, staged.name)
        except OSError as exc:
            raise self._refused("the new output", exc) from exc
        self._delete_surplus()
        fault_point("published")

    def versions(self) -> list[Version]:
        """What can be restored, the output that was replaced last first."""
        return self._versions.listed()

    def restore(self, version: Version) -> None:
        """Makes `version` the target, and keeps what is there as the newest version. Under the lock.

        Raises:
            OutputError: `version` is not whole, or as `publish`; the target is what it was.
        """
        self._place.is_taken = False
        missing = version.missing()
        if missing:
            raise OutputError(
                f"the output of {version.label} in {version.path} is not whole any more ({missing[0]} is "
                f"gone or was changed); {self.path} is as it was, choose another one of kvspark rollback --list"
            )
        self.check()
        try:
            with held():
                self._place.take(version.path, f"rollback-{secrets.token_hex(4)}")
        except OSError as exc:
            raise self._refused(f"the output of {version.label}", exc) from exc
        self._versions.tidy()
        fault_point("restored")

    def discard(self, staged: Path) -> None:
        """Deletes what is staged there, if anything; a warning where that fails."""
        if staged.exists():
            _discard(staged)

    def _refused(self, what: str, exc: OSError) -> OutputError:
        if self.is_published:
            return OutputError(
                f"output path {self.path}: {what} has taken its place, and the disk does not say that "
                f"it would survive a loss of power ({exc.strerror})"
            )
        return OutputError(
            f"output path {self.path}: {what} could not take its place ({exc.strerror}); the old "
            "output is untouched"
        )

    def _delete_surplus(self) -> None:
        for old in self._versions.surplus(self._keep):
            # Under another name first: what is half deleted must not be taken for an output.
            place = old.rename(self._folder / f"old-{secrets.token_hex(4)}")
            fault_point("discarding")
            _discard(place)
        self._versions.tidy()


def _discard(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as exc:
        # The output is right without it, and the next run tries again.
        log.warning("%s could not be deleted (%s)", path, exc.strerror)


def _sync(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent) / name)
        sync(Path(parent))
