"""A server with what the case needs in it, a proxy before it, and what was started to hurt them."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from tests.faults import case
from tests.faults.proxy import FaultProxy
from tests.redis_server import RedisAddress, running_redis

WAIT_S = 60.0
"""For the server to get where a fault wants it."""


@final
@dataclass
class Staging:
    """What a fault may use; what it starts ends with it."""

    server: RedisAddress
    proxy: FaultProxy
    ends: ExitStack
    done: list[int] = field(default_factory=list)
    """What a fault counted itself."""

    def ask(self, *command: str) -> None:
        """Asks the server for something that it must do."""
        reply = self.server.ask(*command)
        assert not reply.startswith(b"-"), reply

    def errors(self, kind: str) -> int:
        """How many error replies of a kind the server has sent: "OOM", "LOADING", ..."""
        return self.info("errorstats", f"errorstat_{kind}:count=")

    def info(self, section: str, start: str) -> int:
        """The number behind `start` in a section of INFO; 0 if it is not there."""
        for line in self.server.ask("INFO", section).decode().splitlines():
            if line.startswith(start):
                return int(line.removeprefix(start).partition(",")[0])
        return 0

    def until(self, is_so: Callable[[], bool]) -> None:
        """Waits until the server is where a fault wants it."""
        ends = time.monotonic() + WAIT_S
        while not is_so():
            assert time.monotonic() < ends, "the fault did not come about"
            time.sleep(0.005)

    def says(self, start: bytes) -> bool:
        """True if the server answers a PING so."""
        with suppress(OSError):
            return self.server.ask("PING").startswith(start)
        return False

    def meanwhile(self, *command: str) -> None:
        """Asks for something whose answer takes long, from a thread of its own."""

        def asks() -> None:
            with suppress(OSError):
                self.server.ask(*command)

        thread = threading.Thread(target=asks, daemon=True)
        thread.start()
        self.ends.callback(thread.join, WAIT_S)

    def restart(self) -> None:
        """Another server, with nothing in it, takes the place of the one that is there."""
        empty = self.ends.enter_context(running_redis())
        empty.ask("ACL", "SETUSER", case.USER, "on", f">{case.PASSWORD}", "~*", "+@all")
        self.proxy.redirect(empty.port)

    def downloads(self, key: str) -> None:
        """Another client reads a value that takes the server long, at its own speed."""

        def reads() -> None:
            with socket.create_connection(("127.0.0.1", self.server.port)) as link:
                link.sendall(b"GET %b\r\n" % key.encode())
                self.done.append(len(link.recv(1 << 20)))
                while link.recv(1 << 20)[-2:] != b"\r\n":
                    pass

        thread = threading.Thread(target=reads, daemon=True)
        thread.start()
        self.ends.callback(thread.join, WAIT_S)

    def idle_clients(self, count: int) -> None:
        """Clients that came first and stay."""
        for _ in range(count):
            link = self.ends.enter_context(
                socket.create_connection(("127.0.0.1", self.server.port))
            )
            link.sendall(b"SUBSCRIBE nothing\r\n")
            assert link.recv(64)


@contextmanager
def staged(*options: str, folder: Path | None = None) -> Iterator[Staging]:
    """A server as `case.prepare` leaves it; its proxy has no fault yet."""
    where = () if folder is None else ("--dir", str(folder))
    with running_redis(*options, *where) as server:
        case.prepare(server)
        with FaultProxy(server.port) as proxy, ExitStack() as ends:
            yield Staging(server, proxy, ends)
