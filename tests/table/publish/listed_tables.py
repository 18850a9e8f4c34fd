"""Tables in object stores and in HDFS, by what the format says and without kvspark: a pointer, and lists of files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

Bytes = Callable[[str], "bytes | None"]
"""The file at a URL; None if there is none."""


def pointer_of(read: Bytes, url: str) -> dict[str, Any]:
    """What the pointer says; nothing before the first run."""
    data = read(f"{url}/_kvspark/pointer.json")
    found: dict[str, Any] = json.loads(data or b'{"current": null, "kept": []}')
    return found


def shares_of(read: Bytes, url: str, version: dict[str, Any]) -> list[dict[str, Any]]:
    """What a version has of each attempt."""
    data = read(f"{url}/_runs/{version['attempt']}/_kvspark/files.json")
    if data is None:
        raise FileNotFoundError(version["attempt"])
    shares: list[dict[str, Any]] = json.loads(data)["shares"]
    return shares


def files_of(shares: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The files with rows, by their paths below `_runs`."""
    return {
        "/".join(filter(None, (share["attempt"], each["folder"], each["name"]))): each
        for share in shares
        for each in share["files"]
    }


def rows_listed(read: Bytes, url: str) -> list[tuple[str, str]]:
    """What a reader finds; none before the first run."""
    current = pointer_of(read, url)["current"]
    rows: list[tuple[str, str]] = []
    for path, each in files_of([] if current is None else shares_of(read, url, current)).items():
        data = read(f"{url}/_runs/{path}")
        if data is None:
            raise FileNotFoundError(path)
        kind = unquote(each["folder"].removeprefix("kind="))
        contents = pq.read_table(pa.BufferReader(data))["content"].to_pylist()
        assert len(contents) == each["rows"]
        rows += [(content, kind) for content in contents]
    return sorted(rows)


def unneeded(read: Bytes, url: str, names: Iterable[str]) -> list[str]:
    """Those of `names`, the files below `_runs`, that belong to no version."""
    pointer = pointer_of(read, url)
    needed, notes = set(), set()
    for version in filter(None, (pointer["current"], *pointer["kept"])):
        shares = shares_of(read, url, version)
        needed |= set(files_of(shares))
        needed |= {f"{share['attempt']}/{path}" for share in shares for path in share["beside"]}
        for name in ("run.json", "history.jsonl", "files.json"):
            notes.add(f"{version['attempt']}/_kvspark/{name}")
        notes.add(f"{version['attempt']}/_SUCCESS")
    return sorted(set(names) - needed - notes)
