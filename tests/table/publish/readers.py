"""A reader beside a run, and what a run leaves behind, of every kind of target."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from kvspark.table.objects.object_store import ObjectStore
from kvspark.table.objects.storage import Storage
from kvspark.table.publish.added_runs import RUNS_NOTE, AddedRuns
from tests.table.publish.cloud_tables import cloud_bytes, cloud_names
from tests.table.publish.hdfs_tables import hdfs_left_over
from tests.table.publish.iceberg_tables import iceberg_left_over
from tests.table.publish.listed_tables import unneeded
from tests.table.publish.targets import publisher_at

T = TypeVar("T")

_PAUSE_S = 0.01
"""Between two readings, so that the run gets its turn."""


def while_reading(read: Callable[[], T], work: Callable[[], object]) -> list[T]:
    """The different tables that a reader finds from before `work` until after it; no reading failed.

    However short the work and however busy the machine: it begins after a whole reading and ends before the last one.
    """
    found: list[T] = []
    failed: list[Exception] = []
    begun, ended = threading.Event(), threading.Event()

    def read_once() -> None:
        try:
            there = read()
        except FileNotFoundError:  # listed before an exchange, and opened after it: read again
            return
        except Exception as exc:  # noqa: BLE001 - the test fails of it, and tells what it was
            failed.append(exc)
            return
        if not found or found[-1] != there:
            found.append(there)

    def reading() -> None:
        read_once()
        begun.set()
        while not ended.wait(_PAUSE_S):
            read_once()
        read_once()

    reader = threading.Thread(target=reading)
    reader.start()
    begun.wait()
    try:
        work()
    finally:
        ended.set()
        reader.join()
    assert failed == []
    assert found
    return found


def left_over(kind: str, url: str) -> list[str]:
    """What lies there of attempts that are no version."""
    if kind == "posix":
        beside = Path(url).with_name(f".kvspark-{Path(url).name}")
        return [
            item.name for item in beside.iterdir() if item.name not in {"kept", "unpublished.jsonl"}
        ]
    if kind.startswith("iceberg"):
        return iceberg_left_over(kind, url)
    if kind == "hdfs":
        return hdfs_left_over(url)
    if not kind.startswith("delta"):
        return unneeded(cloud_bytes, url, cloud_names(f"{url}/_runs"))
    publisher = publisher_at(kind, url)
    current = publisher.current()
    versions = [each for each in (*publisher.versions(), current) if each is not None]
    kept = {each.attempt for each in versions}
    for note in filter(None, (publisher.note(each, RUNS_NOTE) for each in versions)):
        kept |= set(AddedRuns.from_bytes(note, url).files)
    if kind == "delta":
        root = Path(url)
        left = [each.parent.name for each in root.glob("runs/*/*")]
        return sorted({*left, *(each.name for each in root.glob("_kvspark/open/*"))} - kept)
    # Objects, and not folders: this server shows empty ones for a while.
    names = {each.name.split("/")[1] for each in ObjectStore(Storage(url)).listed("runs")}
    return sorted(names - kept)
