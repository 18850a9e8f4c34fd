"""Tables in HDFS, read by its client alone: what says where the table is, and the files that are there."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from hdfs_native import Client


def client_of(url: str) -> tuple[Client, str]:
    """A client, and the path of `url`."""
    host, _, path = url.removeprefix("hdfs://").partition("/")
    return Client(f"hdfs://{host}"), f"/{path}"


def hdfs_pointer(url: str) -> dict[str, Any] | None:
    """What the pointer says; None before the first run."""
    client, path = client_of(url)
    place = f"{path}/_kvspark/pointer.json"
    try:
        names = [each.path.rpartition("/")[2] for each in client.list_status(place)]
    except FileNotFoundError:
        return None
    (now,) = (name for name in names if name.startswith("now-"))
    value: dict[str, Any] = json.loads(client.read(f"{place}/{now.removeprefix('now-')}").read())
    return value


def hdfs_rows(url: str) -> list[tuple[str, str]]:
    """What a reader finds; none before the first run."""
    pointer = hdfs_pointer(url)
    if pointer is None or pointer["current"] is None:
        return []
    client, folder = client_of(pointer["current"]["url"])
    rows: list[tuple[str, str]] = []
    for each in client.list_status(folder, recursive=True):
        names = each.path.removeprefix(f"{folder}/").split("/")
        if each.isdir or any(name.startswith("_") for name in names):
            continue
        table = pq.read_table(pa.BufferReader(client.read(each.path).read()))
        kind = unquote(names[0].removeprefix("kind="))
        rows += [(content, kind) for content in table["content"].to_pylist()]
    return sorted(rows)


def hdfs_left_over(url: str, kept: Collection[str]) -> list[str]:
    """What lies in a table that belongs to none of the attempts `kept`, nor says which these are."""
    client, root = client_of(url)
    left = [each.path for each in client.list_status(f"{root}/_runs")]
    left = [path for path in left if path.rpartition("/")[2] not in kept]
    wanted = {"pointer.json": 2, "lock.json": 2, "clock": 1}  # a marker and its value
    for each in client.list_status(f"{root}/_kvspark"):
        there = list(client.list_status(each.path))
        if len(there) != wanted.get(each.path.rpartition("/")[2], 0):
            left += [file.path for file in there] or [each.path]
    return left
