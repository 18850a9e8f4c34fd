"""A proxy in front of a NameNode, which loses the answers that a test names, and saves the client half a second a file.

The client asks whether a file is complete as soon as the DataNode has its last byte, before the DataNode has told the NameNode.
Then it waits for half a second and asks again. Here the question arrives a moment later.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import final

_LATER_S = 0.015
_MOST_BYTES = 1 << 16


@final
@dataclass(slots=True)
class HdfsProxy:
    """Passes requests on to the NameNode at port `server`."""

    server: int
    port: int = 0
    lost: bytes = b""
    """The method whose next answer is lost, with its connection."""
    fired: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def lose_answer(self, method: str) -> None:
        """The NameNode does what the next request for `method` asks, and nobody hears of it."""
        self.lost, self.fired = method.encode(), 0

    def is_lost(self, request: bytes) -> bool:
        """True for the one request whose answer is to be lost."""
        with self._lock:
            if not self.lost or self.lost not in request:
                return False
            self.lost, self.fired = b"", 1
            return True


def _serve(proxy: HdfsProxy, client: socket.socket) -> None:
    with client, suppress(OSError), socket.create_connection(("127.0.0.1", proxy.server)) as server:
        is_mute = threading.Event()
        back = threading.Thread(target=_answers, args=(server, client, is_mute), daemon=True)
        back.start()
        while request := client.recv(_MOST_BYTES):
            if b"complete" in request:
                time.sleep(_LATER_S)
            if proxy.is_lost(request):
                is_mute.set()
            server.sendall(request)
        server.shutdown(socket.SHUT_RDWR)


def _answers(server: socket.socket, client: socket.socket, is_mute: threading.Event) -> None:
    with suppress(OSError):
        while answer := server.recv(_MOST_BYTES):
            if is_mute.is_set():
                break
            client.sendall(answer)
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)


@contextmanager
def hdfs_proxy(server: int) -> Iterator[HdfsProxy]:
    """A proxy in front of the NameNode at port `server`, until the block ends."""
    proxy = HdfsProxy(server)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy.port = listener.getsockname()[1]

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    threading.Thread(target=_serve, args=(proxy, client), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
