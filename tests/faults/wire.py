"""What can go wrong between a client and its server, one class a fault.

A fault is asked about each command and each reply that it acts on, and calls `fire` when it did
something. What it does not override goes through.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from typing_extensions import override

from tests.faults.link import Fire, Link
from tests.faults.resp import command_name, items


class Fault:
    """Lets everything through."""

    takes_setup: bool = False
    """True if the commands that set up a connection are its as well."""

    def connect(self, link: Link, fire: Fire) -> None:
        """A client has connected."""

    def command(self, link: Link, command: bytes, fire: Fire) -> None:
        """A command came from the client."""
        link.forward(command)

    def reply(self, link: Link, reply: bytes, fire: Fire) -> None:
        """A whole reply came from the server."""
        link.answer(reply)


@final
class Nothing(Fault):
    """No fault."""


@final
@dataclass(frozen=True)
class Delay(Fault):
    """Replies are late; those that come together are late together."""

    seconds: float

    @override
    def reply(self, link: Link, reply: bytes, fire: Fire) -> None:
        fire()
        if link.is_quiet:
            link.pause(self.seconds)
        link.answer(reply)


@final
@dataclass(frozen=True)
class Drip(Fault):
    """Replies come a few bytes at a time: each `recv` is quick and the whole never ends."""

    size_bytes: int = 64
    pause_s: float = 0.05

    @override
    def reply(self, link: Link, reply: bytes, fire: Fire) -> None:
        for at in range(0, len(reply), self.size_bytes):
            link.answer(reply[at : at + self.size_bytes])
            fire()
            link.pause(self.pause_s)


@final
@dataclass(frozen=True)
class Throttle(Fault):
    """A narrow link: replies take their bytes' time."""

    bytes_per_s: float
    piece_bytes: int = 1_460

    @override
    def reply(self, link: Link, reply: bytes, fire: Fire) -> None:
        for at in range(0, len(reply), self.piece_bytes):
            piece = reply[at : at + self.piece_bytes]
            fire()
            link.pause(len(piece) / self.bytes_per_s)
            link.answer(piece)


@final
@dataclass(frozen=True)
class Lossy(Fault):
    """What lost packets look like above TCP: a share of the replies waits for a second sending."""

    share: float = 0.2
    again_s: float = 0.2
    """Linux' least retransmission time-out."""
    chance: random.Random = field(default_factory=lambda: random.Random(20))

    @override
    def reply(self, link: Link, reply: bytes, fire: Fire) -> None:
        if self.chance.random() < self.share:
            fire()
            link.pause(self.again_s)
        link.answer(reply)


@final
@dataclass(frozen=True)
class Cut(Fault):
    """A reply ends at byte `at`, and the connection with it."""

    at: int

    @override
    def reply(self, link: Link, reply: bytes, fire: Fire) -> None:
        if self.at < len(reply):
            fire()
            link.answer(reply[: self.at])
            link.end()
        link.answer(reply)


@final
@dataclass(frozen=True)
class Flip(Fault):
    """A bit of a reply changes; of one that holds values, a bit of a value."""

    share: float = 0.5
    """Where in the value: 0 is its first byte, 1 its last."""

    @override
    def reply(self, link: Link, reply: bytes, fire: Fire) -> None:
        values = (
            [item for item in items(reply) if item.startswith(b"$")] if reply[:1] == b"*" else []
        )
        if not values:
            link.answer(reply)
            return
        value = values[len(values) // 2]
        start = reply.index(value) + value.index(b"\r\n") + 2
        end = reply.index(value) + len(value) - 3
        at = start + round(self.share * (end - start))
        changed = bytearray(reply)
        changed[at] ^= 0x10
        fire()
        link.answer(bytes(changed))


@final
class Swap(Fault):
    """Each two replies to look-ups of as many keys trade places; it fires where they differ."""

    more_s: float = 0.005
    """A client sends windows one after the other: the next may come after the first's reply."""

    def __init__(self) -> None:
        self._kept: dict[int, bytes] = {}

    @override
    def reply(self, link: Link, reply: bytes, fire: Fire) -> None:
        first = self._kept.pop(id(link), b"")
        if first and _head(first) == _head(reply):
            link.answer(reply + first)
            if first != reply:
                fire()
            return
        link.answer(first)
        if reply[:1] == b"*" and (not link.is_answered or link.asks_within(self.more_s)):
            self._kept[id(link)] = reply
        else:
            link.answer(reply)


@final
class SwapValues(Fault):
    """The first two values in the reply to a look-up trade places."""

    @override
    def reply(self, link: Link, reply: bytes, fire: Fire) -> None:
        inside = items(reply) if reply[:1] == b"*" else []
        places = [at for at, item in enumerate(inside) if item.startswith(b"$")]
        if len(places) >= 2:
            one, other = places[:2]
            inside[one], inside[other] = inside[other], inside[one]
            fire()
        link.answer(reply[: reply.index(b"\r\n") + 2] + b"".join(inside) if inside else reply)


@final
class Twice(Fault):
    """A reply comes twice: every later one on this connection answers the command before."""

    @override
    def reply(self, link: Link, reply: bytes, fire: Fire) -> None:
        fire()
        link.answer(reply + reply)


@final
class BlackHole(Fault):
    """Nothing comes through any more, and nobody says so."""

    takes_setup = True

    @override
    def command(self, link: Link, command: bytes, fire: Fire) -> None:
        fire()

    @override
    def reply(self, link: Link, reply: bytes, fire: Fire) -> None:
        fire()


@final
class Reset(Fault):
    """Connections are thrown away (RST)."""

    @override
    def connect(self, link: Link, fire: Fire) -> None:
        fire()
        link.reset()

    @override
    def command(self, link: Link, command: bytes, fire: Fire) -> None:
        fire()
        link.reset()


@final
class Close(Fault):
    """Connections are taken and closed (FIN)."""

    @override
    def connect(self, link: Link, fire: Fire) -> None:
        fire()
        link.end()

    @override
    def command(self, link: Link, command: bytes, fire: Fire) -> None:
        fire()
        link.end()


@final
@dataclass(frozen=True)
class Say(Fault):
    """An answer of our own instead of the server's, which is not asked."""

    reply_bytes: bytes
    to: str = ""
    """The name of the only command that is answered so; all of them without it."""

    @override
    def command(self, link: Link, command: bytes, fire: Fire) -> None:
        if self.to and command_name(command) != self.to:
            link.forward(command)
            return
        fire()
        link.answer_in_turn(self.reply_bytes)


@final
class Call(Fault):
    """Does something to the server, once, before the command goes through."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._lock = threading.Lock()
        self._is_done = False

    @override
    def command(self, link: Link, command: bytes, fire: Fire) -> None:
        with self._lock:
            if not self._is_done:
                self._is_done = True
                link.flush()
                self._action()
                fire()
        link.forward(command)


def _head(reply: bytes) -> bytes:
    return reply[: reply.index(b"\r\n")]
