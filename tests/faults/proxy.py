"""A small TCP proxy in front of a Redis server that goes wrong at a command that it counts.

    with FaultProxy(server.port, Flip(), first=3, times=1) as proxy:
        ...                        # the reply to the fourth command has a bit flipped
    assert proxy.fired == 1

The proxy numbers the commands that carry data (not HELLO, AUTH, PING, ...) over all connections,
from 0. From `first` on, for `times` of them or for ever, they belong to the fault. So when it
happens does not depend on the clock, and `fired` counts what the fault really did.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import final

from tests.faults.link import Link, LinkEndedError
from tests.faults.resp import command_name, frames
from tests.faults.wire import Fault, Nothing

_SETUP = frozenset({"HELLO", "AUTH", "SELECT", "PING", "CLIENT", "COMMAND", "INFO"})
_LOOK_S = 0.02
"""How long a thread may take to notice that the proxy ends."""


@final
class FaultProxy:
    """Listens on a port of its own until the `with` block ends."""

    def __init__(
        self, port: int, fault: Fault | None = None, *, first: int = 0, times: int | None = None
    ) -> None:
        self._server_port = port
        self.turn_on(fault or Nothing(), first=first, times=times)
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self.commands: Counter[str] = Counter()
        """Commands that came in, by name."""
        self.numbered = 0
        """Commands that carry data."""
        self.connections = 0
        self.fired = 0
        """How often the fault did something."""

    def __enter__(self) -> FaultProxy:
        self._start(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ends.set()
        self.refuse()
        for thread in self._threads:
            thread.join(timeout=10)
            assert not thread.is_alive(), "a fault kept its thread"

    def refuse(self) -> None:
        """From now on the port is closed, as that of a server that is gone."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def turn_on(self, fault: Fault, *, first: int = 0, times: int | None = None) -> None:
        """From now on `fault` has the commands that are numbered so."""
        self._fault, self._first, self._times = fault, first, times

    def heal(self) -> None:
        """From now on everything goes through."""
        self.turn_on(Nothing())

    def redirect(self, port: int) -> None:
        """From now on new connections go to another server."""
        self._server_port = port

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ends.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, LinkEndedError):
            if self._acts_on(self.numbered):
                self._fault.connect(Link(client, client, self._ends), self._fire)
            with socket.create_connection(("127.0.0.1", self._server_port)) as server:
                self._carry(Link(client, server, self._ends))

    def _carry(self, link: Link) -> None:
        asked, answered = bytearray(), bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(link.client, selectors.EVENT_READ, asked)
            selector.register(link.server, selectors.EVENT_READ, answered)
            while not self._ends.is_set():
                for key, _ in selector.select(_LOOK_S):
                    sock = link.client if key.data is asked else link.server
                    received = sock.recv(1 << 18)
                    if not received:
                        return
                    key.data.extend(received)
                    for frame in frames(key.data):
                        self._command(link, frame) if key.data is asked else self._reply(
                            link, frame
                        )
                    link.flush()

    def _command(self, link: Link, command: bytes) -> None:
        name = command_name(command)
        with self._lock:
            self.commands[name] += 1
            link.number = None if name in _SETUP else self.numbered
            self.numbered += name not in _SETUP
        self._fault_for(link).command(link, command, self._fire)

    def _reply(self, link: Link, reply: bytes) -> None:
        link.reply_comes()
        self._fault_for(link).reply(link, reply, self._fire)
        link.reply_went()

    def _fault_for(self, link: Link) -> Fault:
        if link.number is not None:
            return self._fault if self._acts_on(link.number) else Nothing()
        is_on = self._fault.takes_setup and self._acts_on(self.numbered)
        return self._fault if is_on else Nothing()

    def _acts_on(self, number: int) -> bool:
        ends = None if self._times is None else self._first + self._times
        return number >= self._first and (ends is None or number < ends)

    def _fire(self) -> None:
        with self._lock:
            self.fired += 1
