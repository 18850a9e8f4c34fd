"""Tables in HDFS, read by its client alone: what says where the table is, and the files that are there."""

from __future__ import annotations

import json
from typing import Any

from hdfs_native import Client

from tests.table.publish.listed_tables import unneeded


def client_of(url: str) -> tuple[Client, str]:
    """A client, and the path of `url`."""
    host, _, path = url.removeprefix("hdfs://").partition("/")
    return Client(f"hdfs://{host}"), f"/{path}"


def hdfs_pointer(url: str) -> dict[str, Any] | None:
    """What the pointer says; None before the first run."""
    data = hdfs_bytes(f"{url}/_kvspark/pointer.json")
    value: dict[str, Any] | None = None if data is None else json.loads(data)
    return value


def hdfs_bytes(url: str) -> bytes | None:
    """The file at `url`, or the value that counts of one that is written on a condition; None if there is none."""
    client, path = client_of(url)
    try:
        if path.endswith("/pointer.json"):
            names = [each.path.rpartition("/")[2] for each in client.list_status(path)]
            (now,) = (name for name in names if name.startswith("now-"))
            path = f"{path}/{now.removeprefix('now-')}"
        return bytes(client.read(path).read())
    except FileNotFoundError:
        return None


def hdfs_names(url: str) -> list[str]:
    """The files below `url`, by their names in it."""
    client, folder = client_of(url)
    found = client.list_status(folder, recursive=True)
    return [each.path.removeprefix(f"{folder}/") for each in found if not each.isdir]


def hdfs_left_over(url: str) -> list[str]:
    """What lies in a table that belongs to no version, nor says which these are."""
    client, root = client_of(url)
    files = hdfs_names(f"{url}/_runs")
    left = unneeded(hdfs_bytes, url, files)
    folders = [each.path.rpartition("/")[2] for each in client.list_status(f"{root}/_runs")]
    left += sorted(set(folders) - {name.partition("/")[0] for name in files})
    wanted = {"pointer.json": 2, "lock.json": 2, "clock": 1}  # a marker and its value
    for each in client.list_status(f"{root}/_kvspark"):
        there = list(client.list_status(each.path))
        if len(there) != wanted.get(each.path.rpartition("/")[2], 0):
            left += [file.path for file in there] or [each.path]
    return left
