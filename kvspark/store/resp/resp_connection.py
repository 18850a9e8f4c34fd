"""A connection that speaks RESP: the only file that imports redis-py.

redis-py connects, authenticates and names errors. This file bounds the time and reads the replies:

- redis-py's timeout is per `recv`, so that a server that sends a few bytes at a time is waited
  for without end. Here each call has one moment at which all its waiting ends. Only the look-up
  of a host name is outside of it: the resolver knows no timeout.
- redis-py's `read_response` costs more than a small reply, of which a cluster has 250 to 1,024
  keys: hiredis reads them here without anything in between.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import (
    AbstractConnection,
    Connection,
    DefaultParser,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.exceptions import AskError, InvalidResponse, MovedError
from redis.retry import Retry

from kvspark.store.deadline import NOW, Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.resp.bounded_socket import BoundedSocket
from kvspark.store.resp.mget_reader import EvenReplies
from kvspark.store.value_table import Slab

READ_BYTES = 256 * 1024
"""Bytes of one recv; redis-py's 32 KiB takes 15 % longer."""

FEED_BYTES = 32 * 1024
"""Bytes that hiredis is given at a time: after each reply it moves what it has of the next ones,
so that 250 replies of 6 KB took 1.4 us a row with 256 KiB at a time and 0.35 with 32."""

# CLIENT SETINFO would cost two round trips; the option has another name before redis-py 7.
_NO_SETINFO: dict[str, Any] = (
    {"driver_info": None}
    if "driver_info" in inspect.signature(AbstractConnection.__init__).parameters
    else {"lib_name": None, "lib_version": None}
)

_MORE = object()

# hiredis before 3.2 has no class for them; nothing that we ask for is pushed.
_PUSHED: Any = getattr(hiredis, "PushNotification", ())


Payload: TypeAlias = "bytes | list[bytes]"
"""What is sent: in one piece, or in pieces that are too large to be copied together."""


@final
class Wire:
    """An open connection to the server at `endpoint`; not safe between threads.

    Raises:
        Exception: whatever redis-py or the socket raises, here and in every method.
    """

    def __init__(self, endpoint: Endpoint, *, protocol: int, deadline: Deadline) -> None:
        self._connection = _connection(endpoint, protocol)
        self._connection.deadline = deadline
        self._connection.connect()
        self._socket: BoundedSocket = self._connection.bounded_socket
        self._is_plain = not endpoint.is_tls
        self._buffer = bytearray(READ_BYTES)
        self._unread = memoryview(b"")
        """What was received and not given to `_reader` yet."""
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            notEnoughData=_MORE,
        )

    def send(self, payload: Payload, deadline: Deadline) -> None:
        """Sends all of `payload` before `deadline`."""
        self._socket.deadline = deadline
        if isinstance(payload, bytes):
            self._socket.sendall(payload)
        elif self._is_plain:
            self._socket.send_pieces(payload)
        else:
            self._socket.sendall(b"".join(payload))

    def read(self, count: int, deadline: Deadline, *, is_last: bool = True) -> list[Any]:
        """`count` replies, error replies as exceptions in their place, all before `deadline`.

        Unless it `is_last`, more was sent, whose replies may have begun to come.
        """
        self._socket.deadline = deadline
        replies = self._parse(count)
        if is_last:
            self._refuse_more()
        return replies

    def read_part(
        self, expected: EvenReplies, deadline: Deadline, *, is_last: bool
    ) -> Slab | list[Any]:
        """The next values of the replies that are `expected`, or all of the replies, as `read` gives them.

        Unless they are the last, more was asked for, whose replies may have begun to come.
        """
        if not self.has_more:
            self._socket.deadline = deadline
            link = self._socket
            part = expected.more(link.recv_into, link.would_wait, is_last=is_last)
            if part is None or expected.is_given:
                self._unread = expected.received
            if part is not None:
                if is_last and expected.is_given:
                    self._refuse_more()
                return part
        return self.read(len(expected.counts), deadline, is_last=is_last)

    def _parse(self, count: int) -> list[Any]:
        reader = self._reader
        replies: list[Any] = []
        while len(replies) < count:
            reply = reader.gets()
            if reply is not _MORE:
                if not isinstance(reply, _PUSHED):
                    replies.append(reply)
                continue
            if not self._unread:
                size_bytes = self._socket.recv_into(self._buffer)
                if not size_bytes:
                    raise ConnectionResetError("the server closed the connection")
                self._unread = memoryview(self._buffer)[:size_bytes]
            reader.feed(self._unread[:FEED_BYTES])  # type: ignore[arg-type] # It takes any buffer.
            self._unread = self._unread[FEED_BYTES:]
        return replies

    @property
    def has_more(self) -> bool:
        """True if something was received that is no reply yet."""
        return bool(self._unread) or self._reader.has_data()

    def _refuse_more(self) -> None:
        if self.has_more:
            raise InvalidResponse("the server answered more than it was asked")

    def fileno(self) -> int:
        """The socket, for waiting until it can be read."""
        number: int = self._socket.fileno()
        return number

    def close(self) -> None:
        """Closes the connection; never raises."""
        self._connection.disconnect()


@final
@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a cluster's node says that a command belongs."""

    host: str
    """Empty for the host of the node that said so."""
    port: int
    is_for_good: bool
    """False while a slot is on its way: only this command goes there, after ASKING."""


def redirect(reply: object) -> Redirect | None:
    """What `reply` says about another node; None if it is no MOVED or ASK."""
    if not isinstance(reply, AskError):
        return None
    return Redirect(reply.host, reply.port, isinstance(reply, MovedError))


def is_lost(exc: BaseException) -> bool:
    """True if a connection was closed by the other side, which nobody noticed before."""
    # Exactly this class of redis-py's: refusals and time-outs are subclasses.
    return isinstance(exc, ConnectionError) or type(exc) is redis.ConnectionError


def knows_no_hello(exc: BaseException) -> bool:
    """True if the server is too old for RESP3: older than Redis 6, a proxy, or HELLO is forbidden."""
    said = str(exc)
    return isinstance(exc, redis.ResponseError) and (
        "hello" in said.lower() or said.startswith(("unknown command", "NOPROTO"))
    )


class _Bounded:
    """Mixed into a connection of redis-py: all of its waiting ends at `deadline`."""

    deadline: Deadline = NOW
    bounded_socket: BoundedSocket

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
        return max(0.001, self.deadline.left_s())

    def _connect(self) -> BoundedSocket:
        self.bounded_socket = BoundedSocket(super()._connect(), self.deadline)  # type: ignore[misc]
        return self.bounded_socket


@final
class _BoundedTcp(_Bounded, Connection):  # type: ignore[misc]
    pass


@final
class _BoundedTls(_Bounded, SSLConnection):  # type: ignore[misc]
    pass


@final
class _BoundedUnix(_Bounded, UnixDomainSocketConnection):  # type: ignore[misc]
    pass


def _connection(endpoint: Endpoint, protocol: int) -> Any:
    options: dict[str, Any] = {
        "db": endpoint.db,
        "username": endpoint.username,
        "password": endpoint.password,
        "protocol": protocol,
        "retry": Retry(NoBackoff(), 0),
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
    return kind(**options)
