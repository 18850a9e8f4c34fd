"""A store on a Redis or Valkey server: the only file that imports redis-py.

One connection per process and store, made at the first call. redis-py connects, authenticates
and parses; this file packs the commands itself and bounds the time:

- `MGET` of 128 keys at a time, all sent before the first reply is read: the server works on the
  next while we parse. 0.9 us a row against 1.3 us for one `MGET` of 1,024 keys by `redis.Redis`
  (1.6 KB values, loopback).
- `SET … PX` for each entry in one write: 2.8 us a row, and each entry has its time to live from
  the start. `MSET` and pipelined `PEXPIRE` took 5.8 us, `MSET` alone 4.4 us, redis-py's own
  pipeline of `SET` 12.5 us. `MSETEX` (Redis 8.4) is an `MSET` with one time: it is not used.
- redis-py's timeout is per `recv`, so that a server that sends a few bytes at a time is waited
  for without end. Here each call has one moment at which all its waiting ends. Only the look-up
  of a host name is outside of it: the resolver knows no timeout.
- A connection that was found closed is opened once more; nothing else is tried again. After other
  trouble it is thrown away: what is left in it would answer the next call.
"""

from __future__ import annotations

import inspect
import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol, final

import redis
from redis.backoff import NoBackoff
from redis.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.retry import Retry
from typing_extensions import override

from kvspark.cache.store.base import Store
from kvspark.cache.store.endpoint import Endpoint
from kvspark.cache.store.redis_error import store_error
from kvspark.errors import StoreUnavailableError

MGET_KEYS = 128
"""Keys of one MGET; 64 to 256 are equally fast, 512 and more are slower."""

READ_BYTES = 256 * 1024
"""Bytes of one recv; redis-py's 32 KiB takes 15 % longer."""

# CLIENT SETINFO would cost two round trips; the option has another name before redis-py 7.
_NO_SETINFO: dict[str, Any] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)


@final
class RedisStore(Store):
    """Bytes under keys on the server at `endpoint`; a call takes `timeout_s` unless it says else."""

    def __init__(self, endpoint: Endpoint, *, timeout_s: float) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._link = _Link(endpoint)

    @override
    def get_many(
        self, keys: Sequence[bytes], *, timeout_s: float | None = None
    ) -> list[bytes | None]:
        windows = [keys[at : at + MGET_KEYS] for at in range(0, len(keys), MGET_KEYS)]
        commands = [_array(b"$4\r\nMGET\r\n", window) for window in windows]
        replies = self._call(commands, len(windows), timeout_s)
        values: list[bytes | None] = []
        for window, reply in zip(windows, replies, strict=True):
            if not isinstance(reply, list) or len(reply) != len(window):
                self.close()
                raise StoreUnavailableError(
                    f"{self._endpoint} answered {len(window)} keys with another number of values"
                )
            values += reply
        return values

    @override
    def set_many(
        self,
        entries: Sequence[tuple[bytes, bytes]],
        *,
        ttl_s: float | None,
        timeout_s: float | None = None,
    ) -> int:
        if ttl_s is None:
            start, end = b"*3\r\n$3\r\nSET\r\n", b"\r\n"
        else:
            ttl_ms = b"%d" % max(1, round(ttl_s * 1_000))
            start = b"*5\r\n$3\r\nSET\r\n"
            end = b"\r\n$2\r\nPX\r\n$%d\r\n%b\r\n" % (len(ttl_ms), ttl_ms)
        pieces: list[bytes] = []
        for key, value in entries:
            pieces += (start, b"$%d\r\n%b\r\n$%d\r\n" % (len(key), key, len(value)), value, end)
        taken = self._call(pieces, len(entries), timeout_s).count(b"OK")
        if taken < len(entries):
            self.close()
            raise StoreUnavailableError(f"{self._endpoint} answered a write with something else")
        return taken

    @override
    def delete_many(self, keys: Sequence[bytes], *, timeout_s: float | None = None) -> int:
        if not keys:
            return 0
        (count,) = self._call([_array(b"$6\r\nUNLINK\r\n", keys)], 1, timeout_s)
        return int(count)

    @override
    def ping(self, *, timeout_s: float | None = None) -> None:
        self._call([b"*1\r\n$4\r\nPING\r\n"], 1, timeout_s)

    @override
    def close(self) -> None:
        self._own_link().close()

    def _own_link(self) -> _Link:
        if self._link.pid != os.getpid():
            # A forked child: a thread of the parent, which goes on with its connection, may have held
            # the lock. Dropping the copy closes our end and tells the server nothing.
            self._link = _Link(self._endpoint)
        return self._link

    def _call(self, pieces: list[bytes], count: int, timeout_s: float | None) -> list[Any]:
        """The `count` replies to the commands in `pieces`; every one of them is read.

        Raises:
            StoreError: no answer, or a reply is an error.
        """
        if not count:
            return []
        ends = time.monotonic() + (self._timeout_s if timeout_s is None else timeout_s)
        replies = self._own_link().exchange(b"".join(pieces), count, ends)
        for reply in replies:
            if isinstance(reply, Exception):
                raise store_error(reply, self._endpoint) from reply
        return replies


@final
class _Link:
    """The connection of one process, opened when it is needed."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.pid = os.getpid()
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._connection: _Wire | None = None
        self._protocol = 3

    def exchange(self, payload: bytes, count: int, ends: float) -> list[Any]:
        """The `count` replies to `payload`, error replies as exceptions in their place."""
        if not self._lock.acquire(timeout=max(0.0, ends - time.monotonic())):
            raise StoreUnavailableError(
                f"{self._endpoint} was busy with another thread's call until this one ran out of time"
            ) from TimeoutError()
        try:
            return self._exchange(payload, count, ends)
        finally:
            self._lock.release()

    def close(self) -> None:
        with self._lock:
            self._drop()

    def _exchange(self, payload: bytes, count: int, ends: float) -> list[Any]:
        if self._connection is not None:
            try:
                return self._try(payload, count, ends)
            except StoreUnavailableError as exc:
                # Exactly this class: the server closed it while nobody looked. A time-out, a
                # refusal and a server that is loading are of other classes.
                if type(exc.__cause__) is not redis.ConnectionError:
                    raise
        return self._try(payload, count, ends)

    def _try(self, payload: bytes, count: int, ends: float) -> list[Any]:
        try:
            connection = self._connected(ends)
            connection.send_packed_command([payload], check_health=False)
            return [_reply(connection) for _ in range(count)]
        except Exception as exc:
            self._drop()
            raise store_error(exc, self._endpoint) from exc
        except BaseException:
            self._drop()
            raise

    def _connected(self, ends: float) -> _Wire:
        connection = self._connection
        if connection is None:
            connection = _connection(self._endpoint, self._protocol)
            connection.ends = ends
            try:
                connection.connect()
            except redis.ResponseError as exc:
                if self._protocol == 2 or not _knows_no_hello(exc):
                    raise
                self._protocol = 2
                return self._connected(ends)
            self._connection = connection
        connection.ends = ends
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.disconnect()


def _reply(connection: _Wire) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as exc:
        return exc


class _Wire(Protocol):
    """What is used of redis-py's connections, which have no types."""

    ends: float

    def connect(self) -> None: ...

    def disconnect(self) -> None: ...

    def send_packed_command(self, command: list[bytes], check_health: bool) -> None: ...  # noqa: FBT001

    def read_response(self) -> Any: ...


class _Bounded:
    """Mixed into a connection of redis-py: all of its waiting ends at `ends`, monotonic."""

    ends: float = 0.0

    # redis-py reads these two before each address that it tries and before the TLS handshake.
    @property
    def socket_connect_timeout(self) -> float:
        return self._left_s()

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: object) -> None:
        """Takes no notice: there is one bound."""

    @property
    def socket_timeout(self) -> float:
        return self._left_s()

    @socket_timeout.setter
    def socket_timeout(self, value: object) -> None:
        """Takes no notice: there is one bound."""

    def _left_s(self) -> float:
        # Not zero, which would make the socket non-blocking.
        return max(0.001, self.ends - time.monotonic())

    def _connect(self) -> _BoundedSocket:
        return _BoundedSocket(super()._connect(), self)  # type: ignore[misc]


@final
class _BoundedTcp(_Bounded, Connection):  # type: ignore[misc]
    pass


@final
class _BoundedTls(_Bounded, SSLConnection):  # type: ignore[misc]
    pass


@final
class _BoundedUnix(_Bounded, UnixDomainSocketConnection):  # type: ignore[misc]
    pass


@final
class _BoundedSocket:
    """A socket that raises TimeoutError as soon as its connection's time has run out."""

    def __init__(self, sock: socket.socket, connection: _Bounded) -> None:
        self._sock = sock
        self._connection = connection

    def recv_into(self, buffer: bytearray) -> int:
        self._bound()
        return self._sock.recv_into(buffer)

    def recv(self, size_bytes: int) -> bytes:
        self._bound()
        return self._sock.recv(size_bytes)

    def sendall(self, payload: bytes) -> None:
        self._bound()
        self._sock.sendall(payload)

    def settimeout(self, timeout_s: float | None) -> None:
        """Takes no notice: there is one bound."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _bound(self) -> None:
        left_s = self._connection.ends - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the time of this call has run out")
        self._sock.settimeout(left_s)


def _connection(endpoint: Endpoint, protocol: int) -> _Wire:
    options: dict[str, Any] = {
        "db": endpoint.db,
        "username": endpoint.username,
        "password": endpoint.password,
        "protocol": protocol,
        "retry": Retry(NoBackoff(), 0),
        "socket_read_size": READ_BYTES,
        **_NO_SETINFO,
    }
    kind: Any
    if endpoint.socket_path:
        kind = _BoundedUnix
        options["path"] = endpoint.socket_path
    else:
        kind = _BoundedTls if endpoint.is_tls else _BoundedTcp
        options |= {"host": endpoint.host, "port": endpoint.port}
    if endpoint.is_tls:
        # Said aloud: redis-py before 6 does not compare the host with the certificate by itself.
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
        options["ssl_ca_certs"] = endpoint.tls_ca_file
    wire: _Wire = kind(**options)
    return wire


def _array(name: bytes, arguments: Sequence[bytes]) -> bytes:
    """A command as RESP writes it: an array of bulk strings."""
    bulks = b"".join([b"$%d\r\n%b\r\n" % (len(each), each) for each in arguments])
    return b"*%d\r\n%b%b" % (len(arguments) + 1, name, bulks)


def _knows_no_hello(exc: redis.ResponseError) -> bool:
    # Servers before Redis 6, proxies, and users who may not call it.
    return "hello" in str(exc).lower() or str(exc).startswith(("unknown command", "NOPROTO"))
