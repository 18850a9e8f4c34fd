"""TLS in front of a server that was built without it: `with tls_relay(path, port, pem, key): ...`.

In a process of its own, which goes with all of its connections when it is killed.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CHUNK_BYTES = 1 << 16
READY = b"ready\n"


@contextmanager
def tls_relay(socket_path: str, port: int, certificate: str, key: str) -> Iterator[None]:
    """Speaks TLS at 127.0.0.1:`port` and hands on to the unix socket, until it is left.

    Raises:
        RuntimeError: the port is taken, or a file cannot be read.
    """
    command = [sys.executable, "-m", __name__, socket_path, str(port), certificate, key]
    with subprocess.Popen(
        command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != READY:
                raise RuntimeError("the TLS relay did not start")
            yield
        finally:
            process.kill()


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
    writer.close()


async def serve(socket_path: str, port: int, context: ssl.SSLContext) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(socket_path)
        await asyncio.gather(copy(reader, back), copy(there, writer))

    server = await asyncio.start_server(relay, "127.0.0.1", port, ssl=context)
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*sys.argv[3:5])
    asyncio.run(serve(sys.argv[1], int(sys.argv[2]), tls))
