"""A store in an HBase table, reached through HBase's Thrift gateway: the only importer of happybase.

    row      two hexadecimal digits of the key's CRC-32, then the key: our keys begin alike, and
             would all be written to one region
    v:e      when the entry ends, milliseconds since 1970 as 8 bytes (0 for never), then the value

    create 'kvspark', {NAME => 'v', VERSIONS => 1}, SPLITS => ('1'..'f').to_a

One call is one request with all its keys. The end of an entry is read from the entry itself; the
same time is also given to the server as the cells' time to live, so that it forgets them by itself.
An entry that is set within the millisecond in which it was deleted stays deleted: HBase's way.

As for Redis, each call has one moment at which all its waiting ends, a connection that was found
closed is opened once more, and after any other trouble it is thrown away. The gateway is spoken to
without TLS and Kerberos, of which happybase knows neither.
"""

from __future__ import annotations

import re
import socket
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from operator import methodcaller
from typing import Any, final

import happybase  # noqa: F401 - It makes Hbase_thrift, from the IDL that it brings.
from Hbase_thrift import BatchMutation, Hbase, IllegalArgument, Mutation, TScan
from Hbase_thrift import IOError as HBaseError
from thriftpy2.protocol import TBinaryProtocol
from thriftpy2.thrift import TClient
from thriftpy2.transport import TBufferedTransport, TFramedTransport, TSocket, TTransportException
from typing_extensions import override

from kvspark.errors import StoreError, StoreFullError, StoreRefusedError, StoreUnavailableError
from kvspark.store.base import Counts, Entries, Keys, Parts, Store
from kvspark.store.deadline import NEVER, NOW, Deadline
from kvspark.store.process import PerProcess

FAMILY = b"v:"
COLUMN = b"v:e"

CALL_ROWS = 1_000
"""Rows of one request; the gateway holds all of a reply before it sends any."""

_ENDS = struct.Struct(">q")

_REFUSED = (
    "TableNotFound",
    "NoSuchColumnFamily",
    "AccessDenied",
    "TableNotEnabled",
    "DoNotRetryIO",
)
_FULL = ("RegionTooBusy", "SpaceLimiting", "ReadOnly", "Throttling")


@final
@dataclass(frozen=True, slots=True)
class Gateway:
    """A Thrift gateway and the table behind it."""

    host: str
    port: int
    table: str
    is_framed: bool = False
    """As the gateway's `-framed`, `-hsha`, `-nonblocking` and `-threadedselector` want it."""

    def __str__(self) -> str:
        return f"hbase://{self.host}:{self.port}/{self.table}"


@final
class HBaseStore(Store):
    """Bytes under keys in the table of `gateway`."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self._table = gateway.table.encode()
        self._line = PerProcess(lambda: _Line(gateway), gateway)

    @override
    def read(self, windows: Iterable[Keys], deadline: Deadline, *, value_bytes: int = 0) -> Parts:
        for keys in windows:
            yield self._get(keys, deadline)

    @override
    def write(
        self, windows: Iterable[Entries], deadline: Deadline, *, ttl_s: float | None
    ) -> Counts:
        for entries in windows:
            self._set(entries, deadline, ttl_s)
            yield len(entries)

    def _get(self, keys: Keys, deadline: Deadline) -> list[bytes | None]:
        rows = [row_key(key) for key in keys]
        found: dict[bytes, bytes] = {}
        for window in _windows(list(dict.fromkeys(rows))):
            for result in self._call("getRowsWithColumns", deadline, window, [COLUMN], {}):
                found[result.row] = result.columns[COLUMN].value
        now_ms = _now_ms()
        return [_value(found.get(row), now_ms) for row in rows]

    def _set(self, entries: Entries, deadline: Deadline, ttl_s: float | None) -> None:
        ttl_ms = 0 if ttl_s is None else max(1, round(ttl_s * 1_000))
        head = _ENDS.pack(_now_ms() + ttl_ms if ttl_ms else 0)
        attributes = {b"_ttl": _ENDS.pack(ttl_ms)} if ttl_ms else {}
        mutations = {
            row_key(key): Mutation(column=COLUMN, value=head + value) for key, value in entries
        }
        for window in _windows(list(mutations)):
            batches = [BatchMutation(row, [mutations[row]]) for row in window]
            self._call("mutateRows", deadline, batches, attributes)

    @override
    def delete(self, keys: Keys, deadline: Deadline) -> int:
        unique = list(dict.fromkeys(keys))
        values = self._get(unique, deadline)
        present = [key for key, value in zip(unique, values, strict=True) if value is not None]
        for window in _windows([row_key(key) for key in present]):
            batches = [
                BatchMutation(row, [Mutation(isDelete=True, column=COLUMN)]) for row in window
            ]
            self._call("mutateRows", deadline, batches, {})
        return len(present)

    @override
    def scan(self, prefix: bytes, *, each_s: float) -> Iterator[list[bytes]]:
        for salt in range(256):
            start = b"%02x%b" % (salt, prefix)
            stop = start.rstrip(b"\xff")
            what = TScan(
                startRow=start,
                stopRow=stop[:-1] + bytes([stop[-1] + 1]),
                columns=[COLUMN],
                caching=CALL_ROWS,
                filterString=b"KeyOnlyFilter()",
            )
            opened = self._call("scannerOpenWithScan", Deadline.after(each_s), what, {})
            while rows := self._ask("scannerGetList", Deadline.after(each_s), opened, CALL_ROWS):
                yield [each.row[2:] for each in rows]
            self._ask("scannerClose", Deadline.after(each_s), opened)

    @override
    def ping(self, deadline: Deadline) -> None:
        families = self._call("getColumnDescriptors", deadline)
        if FAMILY not in families:
            raise StoreRefusedError(
                f"{self.gateway} has no table with a column family v; make one in the HBase shell: "
                f"create '{self.gateway.table}', {{NAME => 'v', VERSIONS => 1}}"
            )

    @override
    def close(self) -> None:
        with self._line.turn(NEVER) as line:
            line.close()

    def _call(self, method: str, deadline: Deadline, *arguments: object) -> Any:
        """What the gateway answers to a question about our table."""
        return self._ask(method, deadline, self._table, *arguments)

    def _ask(self, method: str, deadline: Deadline, *arguments: object) -> Any:
        with self._line.turn(deadline) as line:
            return line.ask(methodcaller(method, *arguments), deadline)


@final
class _Line:
    """The connection to a gateway, opened when it is needed; not safe between threads."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._socket: _BoundedSocket | None = None
        self._client: Any = None

    def ask(self, question: methodcaller, deadline: Deadline) -> Any:
        """The answer to one request.

        Raises:
            StoreError: whatever went wrong.
        """
        is_old = self._socket is not None
        try:
            try:
                return question(self._opened(deadline))
            except (TTransportException, ConnectionError) as exc:
                if not is_old or not _is_lost(exc):
                    raise
                self.close()
                return question(self._opened(deadline))
        except (HBaseError, IllegalArgument) as exc:
            # The gateway answered: the connection is as good as before.
            raise _store_error(exc, self._gateway) from exc
        except Exception as exc:
            self.close()
            raise _store_error(exc, self._gateway) from exc
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection; the next call opens another."""
        opened, self._socket = self._socket, None
        self._client = None
        if opened is not None:
            opened.close()

    def _opened(self, deadline: Deadline) -> Any:
        if self._socket is None:
            opened = _BoundedSocket(self._gateway.host, self._gateway.port)
            opened.deadline = deadline
            transport = (TFramedTransport if self._gateway.is_framed else TBufferedTransport)(
                opened
            )
            transport.open()
            self._client = TClient(Hbase, TBinaryProtocol(transport, decode_response=False))
            self._socket = opened
        self._socket.deadline = deadline
        return self._client


@final
class _BoundedSocket(TSocket):  # type: ignore[misc] # It has no types.
    """A socket of thriftpy2 whose waiting ends at `deadline`."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__(host=host, port=port, socket_family=family)
        self.deadline = NOW

    def open(self) -> None:
        self.set_timeout(1_000 * self._left_s())
        super().open()

    def read(self, size_bytes: int) -> bytes:
        self.sock.settimeout(self._left_s())
        received: bytes = super().read(size_bytes)
        return received

    def write(self, payload: bytes) -> None:
        self.sock.settimeout(self._left_s())
        super().write(payload)

    def _left_s(self) -> float:
        left_s = self.deadline.left_s()
        if left_s <= 0:
            raise TimeoutError("the time of this call has run out")
        return left_s


def row_key(key: bytes) -> bytes:
    """The row of `key`: behind two digits that spread keys over the regions of a table."""
    return b"%02x%b" % (zlib.crc32(key) & 0xFF, key)


def _value(cell: bytes | None, now_ms: int) -> bytes | None:
    if cell is None or len(cell) < _ENDS.size:
        return None
    (ends_ms,) = _ENDS.unpack_from(cell)
    return None if 0 < ends_ms <= now_ms else cell[_ENDS.size :]


def _now_ms() -> int:
    return round(datetime.now(timezone.utc).timestamp() * 1_000)


def _windows(rows: list[bytes]) -> list[list[bytes]]:
    return [rows[at : at + CALL_ROWS] for at in range(0, len(rows), CALL_ROWS)]


def _is_lost(exc: Exception) -> bool:
    """True if the other side had closed the connection."""
    return isinstance(exc, ConnectionError) or (
        getattr(exc, "type", None) == TTransportException.END_OF_FILE
    )


def _store_error(exc: Exception, gateway: Gateway) -> StoreError:
    if not isinstance(exc, HBaseError | IllegalArgument):
        return StoreUnavailableError(f"{gateway} did not answer: {type(exc).__name__}: {exc}"[:200])
    # A Java stack trace, which may quote rows: the names of its exceptions are enough.
    names = re.findall(r"\b(\w+)Exception\b", str(exc.message))
    said = ", ".join(dict.fromkeys(names)) or type(exc).__name__
    if any(name in _REFUSED for name in names) or isinstance(exc, IllegalArgument):
        return StoreRefusedError(f"{gateway} refuses us: {said}")
    if any(name in _FULL for name in names):
        return StoreFullError(f"{gateway} takes no writes: {said}")
    return StoreUnavailableError(f"{gateway} could not answer: {said}")
