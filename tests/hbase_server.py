"""A Thrift gateway for tests that speaks HBase's own IDL and keeps its tables in memory.

    with running_hbase() as server: ... server.port

A process of its own (`python -m tests.hbase_server PORT framed|buffered`), so that
it can be stopped and killed. The IDL is the one that happybase brings. A table whose name begins
with `busy` takes no writes, and one that begins with `denied` lets nobody in.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import happybase  # noqa: F401 - It makes Hbase_thrift from its IDL.
from Hbase_thrift import ColumnDescriptor, Hbase, IllegalArgument, TCell, TRowResult
from Hbase_thrift import IOError as HBaseError
from thriftpy2.protocol import TBinaryProtocolFactory
from thriftpy2.rpc import make_server
from thriftpy2.transport import TBufferedTransportFactory, TFramedTransportFactory

from tests.processes import send
from tests.redis_server import free_port

ROOT = Path(__file__).parents[1]
START_S = 30.0


@final
@dataclass(frozen=True, slots=True)
class HBaseAddress:
    """Where a running gateway is, and how to hurt it."""

    port: int
    pid: int

    def signal(self, number: signal.Signals) -> None:
        send(self.pid, number)


@final
class Tables:
    """What a gateway does with its requests; every row has one version of each cell."""

    def __init__(self) -> None:
        self._families: dict[bytes, list[bytes]] = {b"kvspark": [b"v:"], b"other": [b"x:"]}
        self._cells: dict[tuple[bytes, bytes, bytes], tuple[bytes, float]] = {}
        self._scans: list[list[bytes]] = []
        self._calls: Counter[str] = Counter()

    def getColumnDescriptors(self, tableName: bytes) -> Any:  # noqa: N802, N803 - HBase's names
        self._calls["getColumnDescriptors"] += 1
        return {each: ColumnDescriptor(name=each) for each in self._known(tableName)}

    def getRowsWithColumns(self, tableName: bytes, rows: Any, columns: Any, attributes: Any) -> Any:  # noqa: N802, N803 - HBase's names
        self._calls["getRowsWithColumns"] += 1
        self._known(tableName)
        found = []
        for row in rows:
            cells = {}
            for column in columns:
                value, ends = self._cells.get((tableName, row, column), (b"", 0.0))
                if ends > time.monotonic():
                    cells[column] = TCell(value=value, timestamp=1)
            # A row without any of the columns is left out of the answer.
            if cells:
                found.append(TRowResult(row=row, columns=cells))
        return found

    def mutateRows(self, tableName: bytes, rowBatches: Any, attributes: Any) -> None:  # noqa: N802, N803 - HBase's names
        self._calls["mutateRows"] += 1
        families = self._known(tableName)
        if tableName.startswith(b"busy"):
            raise HBaseError("org.apache.hadoop.hbase.RegionTooBusyException: over memstore limit")
        ttl_s = struct.unpack(">q", attributes[b"_ttl"])[0] / 1_000 if attributes else 1e9
        for batch in rowBatches:
            for each in batch.mutations:
                if each.column.partition(b":")[0] + b":" not in families:
                    raise IllegalArgument("org.apache...NoSuchColumnFamilyException: row-content")
                cell = (tableName, batch.row, each.column)
                if each.isDelete:
                    self._cells.pop(cell, None)
                else:
                    self._cells[cell] = (each.value, time.monotonic() + ttl_s)

    def scannerOpenWithScan(self, tableName: bytes, scan: Any, attributes: Any) -> int:  # noqa: N802, N803 - HBase's names
        self._known(tableName)
        rows = sorted({row for table, row, _ in self._cells if table == tableName})
        self._scans.append([row for row in rows if scan.startRow <= row < scan.stopRow])
        return len(self._scans) - 1

    def scannerGetList(self, id: int, nbRows: int) -> Any:  # noqa: A002, N802, N803 - HBase's names
        rows, self._scans[id] = self._scans[id][:nbRows], self._scans[id][nbRows:]
        return [TRowResult(row=row, columns={}) for row in rows]

    def scannerClose(self, id: int) -> None:  # noqa: A002, N802 - HBase's names
        self._scans[id] = []

    def getTableNames(self) -> list[bytes]:  # noqa: N802 - HBase's name
        # Not the tables: what was asked so far, for tests.
        return [f"{name}={count}".encode() for name, count in self._calls.items()]

    def getTableRegions(self, tableName: bytes) -> Any:  # noqa: N802, N803 - HBase's names
        raise HBaseError(f"not in a test: {tableName!r}")

    def _known(self, table: bytes) -> list[bytes]:
        if table.startswith(b"denied"):
            raise HBaseError("org.apache.hadoop.hbase.security.AccessDeniedException: no")
        if table.startswith(b"busy"):
            return [b"v:"]
        if table not in self._families:
            raise HBaseError("org.apache.hadoop.hbase.TableNotFoundException: " + table.decode())
        return self._families[table]


@contextmanager
def running_hbase(transport: str = "buffered") -> Iterator[HBaseAddress]:
    """A gateway with empty tables, gone at the end however the test ends."""
    port = free_port()
    command = [sys.executable, "-m", "tests.hbase_server", str(port), transport]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        yield HBaseAddress(port, process.pid)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def main(port: str, transport: str) -> None:
    framed = transport == "framed"
    server = make_server(
        Hbase,
        Tables(),
        "127.0.0.1",
        int(port),
        client_timeout=3_600_000,
        proto_factory=TBinaryProtocolFactory(decode_response=False),
        trans_factory=TFramedTransportFactory() if framed else TBufferedTransportFactory(),
    )
    threading.Thread(target=_tell, args=(int(port),), daemon=True).start()
    server.serve()


def _tell(port: int) -> None:
    """Says so as soon as somebody can connect."""
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            print("listening", flush=True)
            return
        time.sleep(0.01)


if __name__ == "__main__":
    main(*sys.argv[1:])
