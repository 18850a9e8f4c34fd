"""The servers of the targets."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.hdfs_server import HdfsServer, running_hdfs
from tests.object_server import S3Address, running_s3


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Address]:
    """A server, which the environment of this process and of those that it starts names."""
    with running_s3() as server:
        before = {name: os.environ.get(name) for name in server.environment}
        os.environ.update(server.environment)
        try:
            yield server
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def lake(s3: S3Address) -> S3Address:
    """The server of `s3`, with its catalog of Iceberg tables."""
    s3.make_lake()
    return s3


@pytest.fixture(scope="session")
def hdfs() -> Iterator[HdfsServer]:
    """A server of HDFS."""
    with running_hdfs() as server:
        yield server
