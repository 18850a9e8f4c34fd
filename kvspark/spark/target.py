"""Where a run's output goes: staged beside the target, published in one step.

    <parent>/<name>                                the target, what readers open
    <parent>/.kvspark-<name>/lock                  one run at a time
    <parent>/.kvspark-<name>/<run id>-<token>/     the staged output of one attempt
    <parent>/.kvspark-<name>/previous/             only where two folders cannot be swapped

The folder beside the target starts with a dot, so Spark's partition discovery and pyarrow skip it
when they read the parent as one table. Every attempt has a folder of its own: the JVM of a killed
driver may write for a moment longer, and must not meet the rerun's files.

Publishing swaps the staged folder and the target in one step (renameat2, RENAME_EXCHANGE: Linux,
local file systems), so a reader sees the old output or the new one, whatever dies, and never both.
Where that call does not exist (other systems, NFS) it takes two renames; a driver that dies between
them leaves no target until the next run starts and puts the old output back. A reader that listed
the old files before the swap can miss them afterwards: it must be started again.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import final

from kvspark.errors import OutputError, UsageError
from kvspark.spark.exchange import exchange as _exchange
from kvspark.spark.fault import fault_point
from kvspark.spark.paths import local_path
from kvspark.spark.run_lock import LOCK_NAME, RunLock

log = logging.getLogger(__name__)

REPORT_FOLDER = "_kvspark"
_PREVIOUS = "previous"
# What Spark and kvspark leave in an output folder; anything else may be a person's own file.
_OURS = re.compile(r"part-.*|_SUCCESS|_metadata|_common_metadata|\..*\.crc|[^/=]+=[^/]*|_kvspark")


@final
class Target:
    """One output folder on a POSIX file system."""

    def __init__(
        self,
        path: str,
        *,
        inputs: Sequence[Path] = (),
        exchange: Callable[[Path, Path], bool] = _exchange,
    ) -> None:
        """Checks `path` before anything is computed; touches nothing.

        Raises:
            UsageError: not a local path, or it overlaps with one of `inputs`.
            OutputError: a file, a symlink, a mount point, not writable, or a folder with files
                that no run wrote.
        """
        self.path = local_path(path, what="output path")
        self._exchange = exchange
        self._folder = self.path.parent / f".kvspark-{self.path.name}"
        _refuse_overlap(self.path, inputs)
        _refuse_kind(self.path)
        _refuse_parent(self.path)

    def lock(self, run_id: str) -> RunLock:
        """A lock to hold, with `with`, for the whole of run `run_id`."""
        return RunLock(self._folder, target=self.path, run_id=run_id)

    def recover(self) -> int:
        """Cleans what dead runs left; the number of folders removed. Only under the lock.

        Puts the previous output back where a run died between the two renames of a publish.
        """
        previous = self._folder / _PREVIOUS
        if previous.is_dir() and not self.path.exists():
            previous.rename(self.path)
            log.warning("a run died while it published to %s: its old output is back", self.path)
        leftovers = [item for item in self._folder.iterdir() if item.name != LOCK_NAME]
        for item in leftovers:
            _discard(item)
        return len(leftovers)

    def stage(self, run_id: str) -> Path:
        """A path for this attempt's files; does not exist yet. Only under the lock."""
        # Hadoop's Path takes no colon in a name, and Airflow's run ids have several.
        name = re.sub(r"[^A-Za-z0-9._-]", "_", run_id).strip(".")[:80]
        return self._folder / f"{name}-{secrets.token_hex(4)}"

    def publish(self, staged: Path) -> None:
        """Makes `staged` the target, then deletes the old output. Only under the lock.

        Guarantees: everything staged is on disk before the target changes.

        Raises:
            OutputError: the file system refused; the target is what it was.
        """
        try:
            _sync(staged)
            fault_point("synced")
            self._swap(staged)
            _sync_path(self.path.parent)
        except OSError as exc:
            raise OutputError(
                f"output path {self.path}: the new output could not take its place "
                f"({exc.strerror}); the old output is untouched"
            ) from exc
        fault_point("discarding")
        self.discard(staged)
        previous = self._folder / _PREVIOUS
        if previous.exists():
            # Under another name first: what is half deleted must not be taken for an output.
            _discard(previous.rename(staged))
        fault_point("published")

    def discard(self, staged: Path) -> None:
        """Deletes what is staged there, if anything; a warning where that fails."""
        if staged.exists():
            _discard(staged)

    def _swap(self, staged: Path) -> None:
        if not self.path.exists():
            staged.rename(self.path)
            fault_point("moved_in")
        elif self._exchange(staged, self.path):
            fault_point("exchanged")
        else:
            previous = self._folder / _PREVIOUS
            self.path.rename(previous)
            fault_point("moved_aside")
            try:
                staged.rename(self.path)
            except OSError:
                previous.rename(self.path)
                raise
            fault_point("moved_in")


def _refuse_overlap(path: Path, inputs: Sequence[Path]) -> None:
    for item in inputs:
        if path == item or path in item.parents or item in path.parents:
            raise UsageError(
                f"output path {path} and input path {item} overlap: publishing would replace the "
                "input, or the next run would read its own output; choose another output path"
            )


def _refuse_kind(path: Path) -> None:
    if path.is_symlink():
        kind = "a symlink; name the folder that it stands for"
    elif path.exists() and not path.is_dir():
        kind = "a file; name a folder, or a path that does not exist"
    elif path.is_mount():
        kind = "a mount point, which cannot be replaced in one step; name a folder inside it"
    elif foreign := next(_foreign(path), None):
        kind = (
            f"a folder with files that no run wrote ({foreign}); publishing would delete them, "
            "so name another folder or move them away"
        )
    else:
        return
    raise OutputError(f"output path {path} is {kind}")


def _foreign(path: Path) -> Iterator[str]:
    if path.is_dir():
        yield from sorted(item.name for item in path.iterdir() if not _OURS.fullmatch(item.name))


def _refuse_parent(path: Path) -> None:
    there = next(folder for folder in path.parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(
            f"output path {path}: {there} is not a folder that this user may write to; "
            "choose another output path or change its permissions"
        )


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
            _sync_path(Path(parent) / name)
        _sync_path(Path(parent))


def _sync_path(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
