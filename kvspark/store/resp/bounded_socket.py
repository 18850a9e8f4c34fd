"""A socket on which a call waits until one moment, however many times it waits.

A time-out of the system is for each `recv`, so that a server that sends a few bytes at a time would be
waited for without end.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Sequence
from typing import Any, final

from kvspark.store.deadline import Deadline

_PIECES = 256
"""Of one `sendmsg`; the system allows 1,024."""


@final
class BoundedSocket:
    """Waits on `sock` until `deadline`, which each call sets.

    Raises:
        TimeoutError: from every method that waits, as soon as the time has run out.
    """

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self.deadline = deadline
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def recv_into(self, buffer: bytearray | memoryview) -> int:
        """How many bytes were received into `buffer`; 0 once the other side has closed."""
        self._bound()
        return self._sock.recv_into(buffer)

    def would_wait(self) -> bool:
        """True if there is nothing to receive now."""
        is_decrypted = isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()
        return not is_decrypted and not self._poll.poll(0)

    def recv(self, size_bytes: int) -> bytes:
        """What has come, so many bytes at most."""
        self._bound()
        return self._sock.recv(size_bytes)

    def sendall(self, payload: bytes) -> None:
        """Sends all of `payload`."""
        self._bound()
        self._sock.sendall(payload)

    def send_pieces(self, pieces: Sequence[bytes]) -> None:
        """Sends all pieces, without making one of them."""
        for at in range(0, len(pieces), _PIECES):
            some = [memoryview(piece) for piece in pieces[at : at + _PIECES]]
            while some:
                self._bound()
                sent = self._sock.sendmsg(some)
                while some and sent >= len(some[0]):
                    sent -= len(some.pop(0))
                if sent:
                    some[0] = some[0][sent:]

    def settimeout(self, timeout_s: float | None) -> None:
        """Takes no notice: there is one bound."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _bound(self) -> None:
        left_s = self.deadline.left_s()
        if left_s <= 0:
            raise TimeoutError("the time of this call has run out")
        self._sock.settimeout(left_s)
