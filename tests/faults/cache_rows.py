"""Rows 1 to 31 of the fault matrix: what happens between a job and its store."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from tests.faults import case
from tests.faults.matrix import ROWS
from tests.faults.staging import Staging
from tests.faults.wire import (
    BlackHole,
    Call,
    Close,
    Cut,
    Delay,
    Drip,
    Fault,
    Flip,
    Lossy,
    Reset,
    Say,
    Swap,
    SwapValues,
    Throttle,
    Twice,
)
from tests.redis_server import PATIENT_MS, debug_options

Act = Callable[[Staging], object]
Count = Callable[[Staging], int]

GONE = frozenset({"unavailable"})
LATE = frozenset({"timeout", "slow"})
FULL = frozenset({"full"})
REFUSED = frozenset({"refused"})
WRONG = frozenset(
    {"corrupt", "misplaced", "foreign", "unexpected", "not_sealed", "not_authentic", "unknown_key"}
)
NONE = frozenset[str]()
"""No trouble need be counted: what is not there is a miss, and what is late may be worth it."""

WAITED_FOR = frozenset({"F4", "F5", "F6", "F7", "F8", "F10", "F18", "F22", "F29"})
"""Rows whose store answers late or never."""


def _by_proxy(staging: Staging) -> int:
    return staging.proxy.fired


def _nothing(_staging: Staging) -> None:
    pass


@final
@dataclass(frozen=True)
class CacheRow:
    """A fault of the store, and how it shows."""

    row: str
    what: str
    fault: Callable[[Staging], Fault]
    counted: frozenset[str]
    """Reasons of which at least one is counted; empty if nothing is."""
    count: Count = _by_proxy
    """How often the fault happened, by whoever knows; asked when it is over."""
    heal: Act = _nothing
    """Ends the fault, on the server."""
    options: tuple[str, ...] = ()
    """Of the server's command line."""

    @property
    def timeout_ms(self) -> int:
        """The usual deadline where the store is waited for, and else none that a busy machine misses."""
        return case.TIMEOUT_MS if self.row in WAITED_FOR else PATIENT_MS

    def __str__(self) -> str:
        return f"{self.row}: {ROWS[self.row]}{f' ({self.what})' if self.what else ''}"


def _wire(row: str, what: str, fault: Callable[[], Fault], counted: frozenset[str]) -> CacheRow:
    return CacheRow(row, what, lambda _: fault(), counted)


def _server(  # noqa: PLR0917 - a table is read by its columns
    row: str,
    what: str,
    act: Act,
    counted: frozenset[str],
    count: Count = _by_proxy,
    heal: Act = _nothing,
    options: Sequence[str] = (),
) -> CacheRow:
    """A fault of the server itself, which the proxy lets happen before a command."""
    return CacheRow(
        row, what, lambda staging: Call(lambda: act(staging)), counted, count, heal, tuple(options)
    )


def _errors(kind: str) -> Count:
    return lambda staging: staging.errors(kind)


def _kill(staging: Staging) -> None:
    staging.server.signal(signal.SIGKILL)
    staging.proxy.refuse()


def _crash(staging: Staging) -> None:
    staging.server.ask("DEBUG", "SEGFAULT")
    staging.proxy.refuse()


def _is_gone(staging: Staging) -> int:
    return case.stopped(staging.server.pid)()


def _restart(staging: Staging) -> None:
    staging.server.signal(signal.SIGKILL)
    staging.restart()


def _expire(staging: Staging) -> None:
    script = "for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('PEXPIRE', key, 1) end"
    staging.ask("EVAL", script, "0")


def _load(staging: Staging) -> None:
    # A server that loads answers once in 2 MiB: 64 of them, 5 ms each.
    staging.ask("CONFIG", "SET", "rdbcompression", "no")
    for number in range(64):
        staging.ask("SETRANGE", f"filler {number}", str(2**21), "x")
    staging.ask("CONFIG", "SET", "key-load-delay", "5000")
    staging.meanwhile("DEBUG", "RELOAD")
    staging.until(lambda: staging.says(b"-LOADING"))


def _evict(staging: Staging) -> None:
    staging.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    staging.ask("CONFIG", "SET", "maxmemory", str(staging.info("memory", "used_memory:") - 100_000))


def _full(staging: Staging) -> None:
    staging.ask("CONFIG", "SET", "maxmemory", "1")


def _cannot_save(staging: Staging) -> None:
    staging.ask("CONFIG", "SET", "save", "3600 1")
    # A folder in the way of the snapshot.
    (staging.server.folder / "dump.rdb").mkdir()
    staging.server.ask("BGSAVE")
    staging.until(lambda: b"MISCONF" in staging.server.ask("SET", "any", "1"))


def _can_save(staging: Staging) -> None:
    # It would not go before it has saved.
    (staging.server.folder / "dump.rdb").rmdir()


def _script(staging: Staging) -> None:
    staging.ask("CONFIG", "SET", "lua-time-limit", "10")
    staging.meanwhile("EVAL", "while true do end", "0")
    staging.until(lambda: staging.says(b"-BUSY"))


def _end_script(staging: Staging) -> None:
    staging.ask("SCRIPT", "KILL")
    # Until it has ended, the question how often it was busy is answered with BUSY.
    staging.until(lambda: staging.says(b"+PONG"))


def _crowd(staging: Staging) -> None:
    staging.idle_clients(2)
    staging.ask("CLIENT", "KILL", "TYPE", "normal")
    staging.ask("CONFIG", "SET", "maxclients", "2")


def _leave(staging: Staging) -> None:
    staging.ends.close()
    # As long as the server has not noticed, it does not let in who asks for its counters either.
    staging.until(lambda: staging.says(b"+PONG"))


def _new_password(staging: Staging) -> None:
    staging.ask("ACL", "SETUSER", case.USER, "resetpass", ">after")
    staging.ask("CLIENT", "KILL", "USER", case.USER)


def _orphan(staging: Staging) -> None:
    staging.ask("CONFIG", "SET", "replica-serve-stale-data", "no")
    staging.ask("REPLICAOF", "127.0.0.1", "1")


def _huge(staging: Staging) -> None:
    staging.ask("SETRANGE", "huge", str(200_000_000), "x")
    staging.downloads("huge")


def _run_on(staging: Staging) -> None:
    staging.server.signal(signal.SIGCONT)


CACHE_ROWS = [
    _server("F2", "", _kill, GONE, _is_gone),
    _server("F3", "", _restart, NONE),
    _server("F4", "SIGSTOP", lambda s: s.server.signal(signal.SIGSTOP), LATE, heal=_run_on),
    _server("F4", "CLIENT PAUSE", lambda s: s.ask("CLIENT", "PAUSE", "3600000", "ALL"), LATE),
    _server("F5", "", lambda s: s.ask("CLIENT", "PAUSE", "3600000", "WRITE"), LATE),
    _wire("F6", "50 ms", lambda: Delay(0.05), LATE),
    _wire("F6", "100 ms", lambda: Delay(0.1), LATE),
    _wire("F6", "300 ms", lambda: Delay(0.3), LATE),
    _wire("F7", "", lambda: Drip(64, 0.05), LATE),
    _wire("F8", "", BlackHole, LATE),
    _wire("F9", "reset", Reset, GONE),
    _wire("F9", "taken and closed", Close, GONE),
    _wire("F10", "as TCP shows it: 200 ms until it is sent again", Lossy, LATE),
    _wire("F10", "1 Mbit/s", lambda: Throttle(125_000), NONE),
    _wire("F11", "in the first line", lambda: Cut(2), GONE),
    _wire("F11", "in a value", lambda: Cut(150), GONE),
    _wire("F12", "first byte", lambda: Flip(0.0), WRONG),
    _wire("F12", "middle", lambda: Flip(0.5), WRONG),
    _wire("F12", "last byte", lambda: Flip(1.0), WRONG),
    _wire("F13", "two answers", Swap, WRONG | GONE),
    _wire("F13", "two values", SwapValues, WRONG),
    _wire("F13", "an answer twice", Twice, WRONG | GONE),
    _server("F14", "", _full, FULL, _errors("OOM")),
    _server("F15", "", _evict, NONE, lambda s: s.info("stats", "evicted_keys:")),
    _server("F17", "FLUSHALL", lambda s: s.ask("FLUSHALL"), NONE),
    _server("F17", "FLUSHDB", lambda s: s.ask("FLUSHDB"), NONE),
    _server(
        "F18",
        "DEBUG RELOAD",
        _load,
        GONE | LATE,
        _errors("LOADING"),
        lambda s: s.until(lambda: s.says(b"+PONG")),
        debug_options(),
    ),
    _server("F19", "", lambda s: s.ask("REPLICAOF", "127.0.0.1", "1"), FULL, _errors("READONLY")),
    _server("F20", "", _orphan, GONE, _errors("MASTERDOWN")),
    _server("F21", "", _cannot_save, FULL, _errors("MISCONF"), _can_save),
    _server("F22", "", _script, GONE | LATE, _errors("BUSY"), _end_script),
    _server(
        "F23",
        "",
        _crowd,
        GONE,
        lambda s: s.info("stats", "rejected_connections:"),
        _leave,
    ),
    _server("F24", "", lambda s: s.ask("CLIENT", "KILL", "TYPE", "normal"), NONE),
    _server("F25", "", _new_password, REFUSED, _errors("WRONGPASS")),
    _wire("F28", "MOVED", lambda: Say(b"-MOVED 1 127.0.0.1:1\r\n"), REFUSED),
    _wire("F28", "CLUSTERDOWN", lambda: Say(b"-CLUSTERDOWN The cluster is down\r\n"), GONE),
    _wire("F28", "TRYAGAIN", lambda: Say(b"-TRYAGAIN Multiple keys\r\n"), GONE),
    _server(
        "F29",
        "",
        _huge,
        NONE,
        lambda s: len(s.done),
        heal=lambda s: s.until(lambda: bool(s.done)),  # the other client may be slower than the run
    ),
    # Without its report, which it writes while it answers nobody: it is gone at once.
    _server(
        "F30",
        "",
        _crash,
        GONE,
        _is_gone,
        options=(*debug_options(), "--crash-log-enabled", "no"),
    ),
    _server("F31", "", _expire, NONE, lambda s: s.info("stats", "expired_keys:")),
]
