"""What the doubles of object stores have in common: the objects, and the HTTP around them."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, final
from urllib.parse import parse_qsl, unquote, urlsplit

BUCKET = "kvspark-tests"


@final
@dataclass(frozen=True, slots=True)
class Kept:
    """An object."""

    data: bytes
    number: int
    """Of the write that made it: no two writes have one."""
    modified: float = field(default_factory=time.time)


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """A request."""

    method: str
    key: str
    """Empty for the bucket."""
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """By names in lower case."""
    body: bytes


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@final
@dataclass(frozen=True, slots=True)
class Page:
    """A part of a listing."""

    keys: list[str]
    prefixes: list[str]
    next: str
    """Where the next one begins; empty after the last."""


class ObjectDouble(ABC):
    """The objects of one bucket, in memory. It takes any credentials: who may do what is not of its business."""

    scheme: str

    def __init__(self) -> None:
        self.endpoint = ""
        self.objects: dict[str, Kept] = {}
        self.lock = threading.RLock()
        self.asked: list[tuple[str, str, int]] = []
        """Method, key and status of all requests."""
        self.faults: list[Callable[[Asked], Answer | None]] = []
        self._written = 0

    @property
    def url(self) -> str:
        """The bucket of the tests."""
        return f"{self.scheme}://{BUCKET}"

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """What the usual clients read."""

    @abstractmethod
    def answer(self, asked: Asked) -> Answer:
        """What the store answers; called with its lock."""

    @abstractmethod
    def error(self, status: int, code: str) -> Answer:
        """An error as the store tells it."""

    def served(self, bucket: str, asked: Asked) -> Answer:
        """The answer to a request for `bucket`."""
        with self.lock:
            for fault in self.faults:
                if (answer := fault(asked)) is not None:
                    break
            else:
                answer = self.answer(asked) if bucket == BUCKET else self.error(404, "NoSuchBucket")
            self.asked.append((asked.method, asked.key, answer.status))
            return answer

    def keep(self, key: str, data: bytes) -> Kept:
        """The object, made."""
        self._written += 1
        self.objects[key] = Kept(data, self._written)
        return self.objects[key]

    def page(self, prefix: str, delimiter: str, after: str, most: int) -> Page:
        """The names behind `after`, in their order; those with `delimiter` behind `prefix` once, up to it."""
        found: dict[str, bool] = {}
        for key in sorted(self.objects):
            if key.startswith(prefix):
                head, cut, _ = (
                    key[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
                )
                found[f"{prefix}{head}{delimiter}" if cut else key] = bool(cut)
        names = [name for name in found if name > after]
        page = names[:most]
        return Page(
            [name for name in page if not found[name]],
            [name for name in page if found[name]],
            page[-1] if len(names) > most else "",
        )

    def read(self, asked: Asked, kept: Kept, headers: Mapping[str, str]) -> Answer:
        """An object, or the part of it that is asked for."""
        size = len(kept.data)
        told = {"Last-Modified": formatdate(kept.modified, usegmt=True), **headers}
        wanted = asked.headers.get("range", "").removeprefix("bytes=")
        if not wanted:
            return Answer(200, told, kept.data)
        first, _, last = wanted.partition("-")
        start = int(first)
        end = min(int(last) + 1 if last else size, size)
        if start >= size:
            return self.error(416, "InvalidRange")
        told["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        return Answer(206, told, kept.data[start:end])


@contextmanager
def serving(double: ObjectDouble) -> Iterator[ObjectDouble]:
    """`double` at an endpoint of this machine, until the block ends.

    A thread answers, of which a client that holds Python's lock while it waits hears nothing: obstore lets go of it.
    """

    class Own(_Handler):
        pass

    Own.double = double
    listener = _Listener(("127.0.0.1", 0), Own)
    double.endpoint = f"http://127.0.0.1:{listener.server_address[1]}"
    thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield double
    finally:
        listener.shutdown()
        listener.server_close()
        thread.join()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: a client that is killed goes without a word."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    double: ObjectDouble

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._serve
        raise AttributeError(name)

    def log_message(self, *args: Any) -> None:
        """Nothing."""

    def _serve(self) -> None:
        place = urlsplit(self.path)
        bucket, _, key = place.path.lstrip("/").partition("/")
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length") or 0))
        query = dict(parse_qsl(place.query, keep_blank_values=True))
        asked = Asked(self.command, unquote(key), query, headers, body)
        answer = self.double.served(unquote(bucket), asked)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
