"""A real S3 server for tests, SeaweedFS: `with running_s3() as server: ... server.url`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final
from urllib.error import HTTPError, URLError

import pyarrow.fs as pafs

from tests.redis_server import free_port

START_S = 60.0
BUCKET = "kvspark-tests"
LAKE = "lake"
ACCESS_KEY, SECRET_KEY = "tests-access", "tests-secret"
_WITH_LAKE: set[str] = set()
"""Endpoints of servers that have it: who asks twice is refused."""


@final
@dataclass(frozen=True, slots=True)
class S3Address:
    """Where a running server is."""

    endpoint: str
    pid: int
    ports: tuple[int, ...]

    @property
    def url(self) -> str:
        """The bucket of the tests."""
        return f"s3://{BUCKET}"

    @property
    def environment(self) -> Mapping[str, str]:
        """What the usual clients read."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            # The catalog of the bucket `LAKE`, as pyiceberg opens it.
            f"PYICEBERG_CATALOG__{LAKE.upper()}__TYPE": "rest",
            f"PYICEBERG_CATALOG__{LAKE.upper()}__OAUTH2_SERVER_URI": f"http://127.0.0.1:{self.ports[8]}/v1/oauth/tokens",
            f"PYICEBERG_CATALOG__{LAKE.upper()}__URI": f"http://127.0.0.1:{self.ports[8]}",
            f"PYICEBERG_CATALOG__{LAKE.upper()}__CREDENTIAL": f"{ACCESS_KEY}:{SECRET_KEY}",
            f"PYICEBERG_CATALOG__{LAKE.upper()}__WAREHOUSE": f"s3://{LAKE}",
        }

    def make_lake(self) -> None:
        """Makes the bucket `LAKE`, of which the server has a catalog of Iceberg tables, unless it has it."""
        if self.endpoint in _WITH_LAKE:
            return
        _WITH_LAKE.add(self.endpoint)
        _, _, master, master_grpc, _, _, filer, filer_grpc, _ = self.ports
        where = [
            f"-master=127.0.0.1:{master}.{master_grpc}",
            f"-filer=127.0.0.1:{filer}.{filer_grpc}",
        ]
        subprocess.run(
            [Path(sys.executable).parent / "weed", "shell", *where],
            input=f"s3tables.bucket -create -name {LAKE} -account admin\n",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
            timeout=60,
        )


def s3_store() -> pafs.FileSystem:
    """The server that the environment names, by another client than kvspark's."""
    return pafs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=os.environ["AWS_ENDPOINT_URL"],
        region=os.environ["AWS_REGION"],
    )


@contextmanager
def running_s3() -> Iterator[S3Address]:
    """A server with an empty bucket, gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="kvspark-s3-"))
    ports = [free_port() for _ in range(9)]
    server = _started(folder, ports)
    try:
        endpoint = f"http://127.0.0.1:{ports[0]}"
        _wait(endpoint, server, folder)
        yield S3Address(endpoint, server.pid, tuple(ports))
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _started(folder: Path, ports: list[int]) -> subprocess.Popen[bytes]:
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    known = {"identities": [{"name": "tests", "credentials": [keys], "actions": actions}]}
    (folder / "s3.json").write_text(json.dumps(known))
    (folder / "data").mkdir()
    services = ("s3", "master", "volume", "filer")
    names = [f"{service}.port{kind}" for service in services for kind in ("", ".grpc")]
    given = [f"-{name}={port}" for name, port in zip(names, ports[:8], strict=True)]
    given += [f"-dir={folder / 'data'}", f"-s3.config={folder / 's3.json'}", "-ip=127.0.0.1"]
    # Its other services have ports of their own.
    given += [f"-s3.port.iceberg={ports[8]}", "-s3.port.lance=0", "-volume.max=50"]
    weed = Path(sys.executable).parent / "weed"
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [weed, "server", "-s3", "-master.volumeSizeLimitMB=64", *given],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _wait(endpoint: str, server: subprocess.Popen[bytes], folder: Path) -> None:
    """Until the bucket is there."""
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    store = S3Store(
        BUCKET,
        endpoint=endpoint,
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        region="us-east-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    ends = time.monotonic() + START_S
    while time.monotonic() < ends:
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
        except HTTPError:  # it answers
            pass
        except (URLError, OSError):
            time.sleep(0.1)
            continue
        try:
            obstore.put(store, "started", b"")  # makes the bucket
            obstore.delete(store, "started")
            return
        except BaseError:
            time.sleep(0.1)
    raise RuntimeError(f"no S3 server: {(folder / 'log').read_text(errors='replace')[-2000:]}")


def main() -> None:
    """Runs until it is stopped, for tries by hand; prints what the shell needs."""
    with running_s3() as server:
        server.make_lake()
        for name, value in server.environment.items():
            print(f"export {name}={value}", flush=True)
        print(f"# {server.url}; process {os.getpid()}", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
