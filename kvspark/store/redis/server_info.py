"""What one server says of itself, and what it lets a user do: for `kvspark doctor`, never for a job.

Nothing here changes the server but one key of no bytes that lives for a second.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis_error import is_forbidden, store_error
from kvspark.store.resp.command import PING, command
from kvspark.store.resp.connection import Line
from kvspark.store.resp.resp_connection import redirect

SETTINGS = ("lfu-decay-time", "save", "appendonly")
"""What INFO does not tell. One CONFIG GET each: servers before Redis 7 take one name."""

_PINGS = 5

Words = tuple[bytes, ...]
"""A command."""


@final
@dataclass(frozen=True, slots=True)
class Interview:
    """The answers of the server at `place`."""

    place: str
    ping_ms: float
    """The fastest of five."""
    info: Mapping[str, str] | None
    """INFO by name; None if the user may not ask."""
    settings: Mapping[str, str]
    """Of SETTINGS, those that the user may ask for."""


def interview(endpoint: Endpoint, deadline: Deadline) -> Interview:
    """What the server at `endpoint` says of itself.

    Raises:
        StoreError: it does not answer, or refuses us.
    """
    line = Line(endpoint)
    try:
        (pong,) = line.exchange(PING, 1, deadline)
        if isinstance(pong, Exception):
            raise store_error(pong, endpoint)
        ping_ms = min(_ping_ms(line, deadline) for _ in range(_PINGS))
        asked = [command(b"CONFIG", b"GET", name.encode()) for name in SETTINGS]
        info, *settings = line.exchange(
            b"".join([command(b"INFO"), *asked]), 1 + len(asked), deadline
        )
    finally:
        line.close()
    told = {name: _setting(reply) for name, reply in zip(SETTINGS, settings, strict=True)}
    return Interview(
        str(endpoint),
        ping_ms,
        None if isinstance(info, Exception) else _parsed(_text(info)),
        {name: value for name, value in told.items() if value is not None},
    )


def allowed(endpoint: Endpoint, commands: Sequence[Words], deadline: Deadline) -> list[bool]:
    """Which of `commands` the user of `endpoint` may run; they are run.

    Raises:
        StoreError: the server does not answer, or refuses us.
    """
    replies = _asked(endpoint, commands, deadline)
    return [not (isinstance(each, Exception) and is_forbidden(each)) for each in replies]


def refusal(endpoint: Endpoint, words: Words, deadline: Deadline) -> str | None:
    """Why the server does not do what `words` ask for, which is not the user's permission; None if it does.

    Raises:
        StoreError: it does not answer, or refuses us.
    """
    (reply,) = _asked(endpoint, [words], deadline)
    # On a cluster's node the key may be another node's: that is no trouble.
    if not isinstance(reply, Exception) or is_forbidden(reply) or redirect(reply) is not None:
        return None
    return str(store_error(reply, endpoint))


def would_allow(
    endpoint: Endpoint, user: str, commands: Sequence[Words], deadline: Deadline
) -> list[bool] | None:
    """Which of `commands` the server would let `user` run; none is run. None if it cannot be asked.

    Raises:
        StoreError: the server does not answer, or refuses us.
    """
    dry = [(b"ACL", b"DRYRUN", user.encode(), *words) for words in commands]
    replies = _asked(endpoint, dry, deadline)
    if any(isinstance(each, Exception) for each in replies):
        return None
    return [_text(each) == "OK" for each in replies]


def _asked(endpoint: Endpoint, commands: Sequence[Words], deadline: Deadline) -> list[Any]:
    line = Line(endpoint)
    try:
        payload = b"".join(command(*words) for words in commands)
        return line.exchange(payload, len(commands), deadline)
    finally:
        line.close()


def _ping_ms(line: Line, deadline: Deadline) -> float:
    started = time.perf_counter()
    line.exchange(PING, 1, deadline)
    return (time.perf_counter() - started) * 1_000


def _setting(reply: Any) -> str | None:
    """The value in the answer to CONFIG GET: a map, or a list before RESP3."""
    if isinstance(reply, Exception):
        return None
    words = list(reply.values()) if isinstance(reply, dict) else list(reply)[1:]
    return _text(words[0]) if words else None


def _parsed(text: str) -> dict[str, str]:
    lines = (line.partition(":") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, _, value in lines if name}


def _text(reply: Any) -> str:
    return reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
