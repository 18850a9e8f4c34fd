"""The servers of the targets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from tests.azure_double import AzureDouble
from tests.gcs_double import GcsDouble
from tests.hdfs_server import HdfsServer, running_hdfs
from tests.object_double import ObjectDouble, serving
from tests.object_server import S3Address, running_s3


@contextmanager
def _in_environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Address]:
    """A server, which the environment of this process and of those that it starts names."""
    with running_s3() as server, _in_environment(server.environment):
        yield server


@pytest.fixture(scope="session")
def lake(s3: S3Address) -> S3Address:
    """The server of `s3`, with its catalog of Iceberg tables."""
    s3.make_lake()
    return s3


@pytest.fixture(scope="session")
def gcs() -> Iterator[ObjectDouble]:
    """A double of Google Cloud Storage, which the environment names."""
    with serving(GcsDouble()) as double, _in_environment(double.environment):
        yield double


@pytest.fixture(scope="session")
def azure() -> Iterator[ObjectDouble]:
    """A double of Azure's Blob Storage, which the environment names."""
    with serving(AzureDouble()) as double, _in_environment(double.environment):
        yield double


@pytest.fixture(scope="session")
def hdfs() -> Iterator[HdfsServer]:
    """A server of HDFS."""
    with running_hdfs() as server:
        yield server
