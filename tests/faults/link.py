"""One connection through the proxy, as a fault may use it."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from typing import final

_DRAIN_S = 0.2


class LinkEndedError(Exception):
    """The connection is over; both of its ends are closed."""


@final
class Link:
    """Bytes on their way between a client and the server; what is sent leaves at `flush`."""

    def __init__(self, client: socket.socket, server: socket.socket, ends: threading.Event) -> None:
        self.client = client
        self.server = server
        self._asked: deque[int | bytes | None] = deque()
        """The numbers of the commands that are not answered yet, or answers of our own, in order."""
        self.number: int | None = None
        """Of the command that is at hand, or that the reply at hand answers; None in the setup."""
        self._ends = ends
        self._to_client = bytearray()
        self._to_server = bytearray()

    @property
    def is_answered(self) -> bool:
        """True if no other reply is due."""
        return not self._asked

    @property
    def is_quiet(self) -> bool:
        """True if nothing is on its way to the client."""
        return not self._to_client

    def asks_within(self, seconds: float) -> bool:
        """Whether the client sends anything in this time."""
        return bool(select.select([self.client], [], [], seconds)[0])

    def forward(self, command: bytes) -> None:
        """Sends a command on; its reply will come."""
        self._asked.append(self.number)
        self._to_server += command

    def answer_in_turn(self, reply: bytes) -> None:
        """Answers the command at hand instead of the server, when those before it are answered."""
        self._asked.append(reply)
        self._settle()

    def reply_comes(self) -> None:
        """Sets `number` to that of the command which the server has answered now."""
        # A server that takes no more clients says so before anything is asked.
        asked = self._asked.popleft() if self._asked else None
        assert not isinstance(asked, bytes)
        self.number = asked

    def reply_went(self) -> None:
        """What the server said is on its way to the client, or lost."""
        self._settle()

    def _settle(self) -> None:
        while self._asked and isinstance(self._asked[0], bytes):
            self._to_client += self._asked.popleft()  # type: ignore[arg-type]  # asked above

    def answer(self, reply: bytes) -> None:
        """Sends bytes to the client."""
        self._to_client += reply

    def flush(self) -> None:
        """Lets everything leave that was sent."""
        for sock, waiting in ((self.server, self._to_server), (self.client, self._to_client)):
            if waiting:
                sock.sendall(waiting)
                waiting.clear()

    def pause(self, seconds: float) -> None:
        """Waits, with all that was sent on its way; ends early when the proxy does."""
        self.flush()
        if self._ends.wait(seconds):
            raise LinkEndedError

    def end(self) -> None:
        """Closes the connection after what was sent (FIN)."""
        self.flush()
        self.client.shutdown(socket.SHUT_WR)
        # A socket that is closed with bytes unread says RST.
        self.client.settimeout(_DRAIN_S)
        with contextlib.suppress(OSError):
            while self.client.recv(1 << 16):
                pass
        raise LinkEndedError

    def reset(self) -> None:
        """Throws the connection away (RST)."""
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise LinkEndedError


Fire = Callable[[], None]
