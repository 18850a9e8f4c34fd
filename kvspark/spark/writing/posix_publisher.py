"""The target on a POSIX file system as a publisher, for what the workers wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from kvspark.errors import OutputError
from kvspark.spark.output.manifest import read_manifest
from kvspark.spark.output.occupant import report_in
from kvspark.spark.output.run_lock import RunLock
from kvspark.spark.output.target import Target
from kvspark.table.publish.files.attempt_files import AttemptFiles
from kvspark.table.publish.publisher import Attempt, Content, Published, Publisher


@final
class PosixPublisher(Publisher):
    """Staged beside the target, published by an exchange of folders; see `target`."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._staged: dict[str, tuple[Path, AttemptFiles]] = {}

    @property
    def url(self) -> str:
        return str(self._target.path)

    def check(self, run_id: str | None = None) -> None:
        del run_id
        self._target.check()

    def lock(self, run_id: str) -> RunLock:
        return self._target.lock(run_id)  # which writes the line of a dead run itself

    def prepare(self, run_id: str) -> Attempt:
        self._target.recover()
        staged = self._target.stage(run_id)
        files = AttemptFiles(staged)
        files.open()
        self._staged[staged.name] = staged, files
        return Attempt(run_id, staged.name, files.place)

    def commit(self, attempt: Attempt, content: Content) -> None:
        there = self.current()
        if there is not None and there.attempt == attempt.name:
            return
        staged, files = self._staged[attempt.name]
        try:
            files.take(content.files)
            for name, data in content.notes.items():
                (staged / name).parent.mkdir(parents=True, exist_ok=True)
                (staged / name).write_bytes(data)
        except OSError as exc:
            raise OutputError(
                f"the output cannot be staged in {staged} ({exc.strerror}); nothing was published"
            ) from exc
        self._target.publish(staged)
        files.sweep()

    def abort(self, attempt: Attempt) -> None:
        staged, files = self._staged[attempt.name]
        files.sweep()
        self._target.discard(staged)

    def current(self) -> Published | None:
        return _published(self._target.path)

    def versions(self) -> tuple[Published, ...]:
        found = (_published(each.path) for each in self._target.versions())
        return tuple(each for each in found if each is not None)

    def note(self, version: Published, path: str) -> bytes | None:
        try:
            return Path(version.url, path).read_bytes()
        except FileNotFoundError:
            return None

    def rollback(self, version: Published) -> None:
        for each in self._target.versions():
            if str(each.path) == version.url:
                self._target.restore(each)
                return
        raise OutputError(
            f"output path {self.url} keeps no output of {version.run_id}; nothing was changed"
        )


def _published(folder: Path) -> Published | None:
    """The output in `folder`; None if no run wrote it."""
    report: Any = report_in(folder)
    manifest = read_manifest(folder)
    if report is None or manifest is None:
        return None
    return Published(
        manifest.attempt, report["run_id"], report["started_at"], str(folder), report["rows_out"]
    )
