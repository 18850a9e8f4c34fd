"""A proxy in front of an S3 server that goes wrong at the requests that a test names."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, final
from urllib.parse import urlsplit

_ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>of a test</Message></Error>"

Fault = Callable[["Handler", Callable[[], None]], None]
"""What is done with a request, and what would pass it on."""


@final
@dataclass(slots=True)
class ObjectProxy:
    """Passes requests on; those that `chosen` names go to `fault`."""

    server: str
    """The endpoint behind it."""
    endpoint: str = ""
    chosen: Callable[[str, str], bool] = lambda method, path: False
    fault: Fault = lambda handler, passed_on: passed_on()
    fired: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def turn_on(self, fault: Fault, chosen: Callable[[str, str], bool]) -> None:
        """From now on `fault` has the requests of which `chosen` is true, by method and path."""
        self.fault, self.chosen = fault, chosen

    def turn_off(self) -> None:
        """Passes everything on again."""
        self.chosen = lambda method, path: False


def say(status: int, code: str) -> Fault:
    """The server answers with an error."""

    def fault(handler: Handler, passed_on: Callable[[], None]) -> None:
        del passed_on
        body = _ERROR.format(code).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    return fault


def lose_answer(handler: Handler, passed_on: Callable[[], None]) -> None:
    """The server does it, and nobody hears of it."""
    handler.is_mute = True
    passed_on()
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True


def late(seconds: float) -> Fault:
    """Every answer comes later."""

    def fault(handler: Handler, passed_on: Callable[[], None]) -> None:
        del handler
        time.sleep(seconds)
        passed_on()

    return fault


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    proxy: ObjectProxy
    is_mute = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def _serve(self) -> None:
        body = self._body()

        def passed_on() -> None:
            self._pass_on(body)

        if not self.proxy.chosen(self.command, self.path):
            passed_on()
            return
        with self.proxy.lock:
            self.proxy.fired += 1
        self.proxy.fault(self, passed_on)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = [b""]
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # what follows the last chunk
            pass
        return b"".join(chunks)

    def _pass_on(self, body: bytes) -> None:
        place = urlsplit(self.proxy.server).netloc
        link = http.client.HTTPConnection(place, timeout=60)
        link.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():  # signed as they are, with the proxy's own name
            if name.lower() not in {"transfer-encoding", "expect"}:
                link.putheader(name, value)
        if "Content-Length" not in self.headers and body:
            link.putheader("Content-Length", str(len(body)))
        link.endheaders(body)
        answer = link.getresponse()
        data = answer.read()
        link.close()
        if self.is_mute:
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "content-length", "connection"}:
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def object_proxy(server: str) -> Iterator[ObjectProxy]:
    """A proxy in front of the endpoint `server`, until the block ends."""
    proxy = ObjectProxy(server)

    class Own(Handler):
        pass

    Own.proxy = proxy
    listener = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    listener.daemon_threads = True
    proxy.endpoint = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever)
    thread.start()
    try:
        yield proxy
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()
