"""One run at a time on a target that has no locks: an object that is renewed, and expires.

It spares a second run its work. What readers find does not hang on it: an attempt that is no longer the last cannot
commit (`object_publisher`), whoever believes to hold the lock.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, final

from kvspark.errors import OutputError, RunLockedError
from kvspark.table.objects.objects import ObjectChangedError, Objects, Stored
from kvspark.table.publish.dead_run import DeadRun

log = logging.getLogger(__name__)

LOCK_NAME = "_kvspark/lock.json"
_CLOCK_NAME = "_kvspark/clock"

_HELD: set[str] = set()
"""The locks that this process holds: one that a store would not let go of is none of them."""

_UNKNOWN = "?"
"""In place of what a note does not say."""

EXPIRES_S = 90.0
"""A lock that nobody has renewed for so long is nobody's."""


@final
class ObjectLock:
    """Holds the target of `store` for one run; `with` lets go of it."""

    def __init__(self, store: Objects, run_id: str, *, expires_s: float = EXPIRES_S) -> None:
        self._store = store
        self._run_id = run_id
        self._expires_s = expires_s
        self._tag = ""
        self._since = _now()
        self._holder = secrets.token_hex(8)
        self._ended = threading.Event()
        self._renewer: threading.Thread | None = None

    def __enter__(self) -> DeadRun | None:
        """The run that died with the lock, once it is taken, for which nobody waits.

        Raises:
            RunLockedError: another run holds it; names that run and since when it runs.
            OutputError: the store refuses.
        """
        try:
            dead = self._take()
        except ObjectChangedError:
            raise self._held("another run has just taken it") from None
        except OSError as exc:
            raise OutputError(f"{exc}; nothing was written") from exc
        self._renewer = threading.Thread(target=self._renew, name="kvspark-lock", daemon=True)
        self._renewer.start()
        return dead

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._renewer is not None:
            self._renewer.join()
        _HELD.discard(self._holder)
        # Not deleted: nothing deletes an object only if it is still the same.
        with suppress(OSError):
            self._store.put_if(LOCK_NAME, self._note(None), self._tag)

    def _take(self) -> DeadRun | None:
        dead = None
        there = self._store.get(LOCK_NAME)
        if there is not None:
            note = _read(there.data)
            if note["run"] is not None and not _is_dead(note) and not self._is_expired(there):
                who = "run {run} holds it, on {host} as process {pid}, last seen {seen}"
                raise self._held(who.format_map(note))
            if note["run"] not in (None, _UNKNOWN):
                dead = DeadRun(note["run"], note["since"] or note["seen"])
        tag = None if there is None else there.tag
        self._tag = self._store.put_if(LOCK_NAME, self._note(self._run_id), tag)
        _HELD.add(self._holder)
        return dead

    def _note(self, run_id: str | None) -> bytes:
        note = {
            "run": run_id,
            "since": self._since,
            "seen": _now(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "processes": _process_space(),
            "holder": self._holder,
            "mark": secrets.token_hex(8),
        }
        return json.dumps(note).encode()

    def _is_expired(self, there: Stored) -> bool:
        # Both times are the store's: clocks of drivers differ.
        self._store.put(_CLOCK_NAME, b"")
        now = self._store.get(_CLOCK_NAME)
        assert now is not None
        return now.modified_at - there.modified_at > timedelta(seconds=self._expires_s)

    def _renew(self) -> None:
        while not self._ended.wait(self._expires_s / 6) and self._renew_once():
            pass

    def _renew_once(self) -> bool:
        """False if another run has the lock."""
        try:
            self._tag = self._store.put_if(LOCK_NAME, self._note(self._run_id), self._tag)
        except ObjectChangedError:
            there = None
            with suppress(OSError):
                there = self._store.get(LOCK_NAME)
            if there is None or _read(there.data)["holder"] != self._holder:
                log.warning(
                    "%s: another run took the lock; this one may not publish", self._store.url
                )
                return False
            self._tag = there.tag  # ours, and its answer was lost
        except OSError as exc:
            log.debug("the lock could not be renewed (%s)", exc)
        return True

    def _held(self, who: str) -> RunLockedError:
        return RunLockedError(
            f"output path {self._store.url}: {who}; nothing was written, start again when it has ended (a run that "
            f"died lets go after {self._expires_s:.0f} s)"
        )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def holder_of(store: Objects) -> str | None:
    """A mark that only the lock of who holds the target of `store` has; None where nobody has ever locked it.

    Raises:
        OSError: the store refuses.
    """
    there = store.get(LOCK_NAME)
    return None if there is None else str(_read(there.data)["holder"]) or None


def _read(data: bytes) -> dict[str, Any]:
    unknown = {
        "run": _UNKNOWN,
        "host": _UNKNOWN,
        "pid": 0,
        "processes": None,
        "holder": "",
        "seen": _UNKNOWN,
        "since": "",
    }
    with suppress(ValueError):
        note = json.loads(data)
        if isinstance(note, dict):
            return {**unknown, **note}
    return unknown


def _is_dead(note: Mapping[str, Any]) -> bool:
    """True if the holder was a process of this machine that is gone, or a run of this one: nobody need wait."""
    if note["processes"] is None or note["processes"] != _process_space():
        return False
    if note["pid"] == os.getpid():
        return note["holder"] not in _HELD
    try:
        os.kill(int(note["pid"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError, TypeError):
        return False
    return False


def _process_space() -> str | None:
    """Within which a process number means one process; None where the system does not say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return None
