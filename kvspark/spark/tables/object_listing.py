"""The Parquet objects that an input in an object store or in HDFS is made of, by the rules for folders on a disk.

A folder to which kvspark has published is read as its pointer says it: the files of the run that was current then.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import final

from kvspark.errors import DataError, OutputError, SecretError, UsageError
from kvspark.spark.tables.folder_names import is_hidden, partition_of
from kvspark.spark.tables.listing import InputFile, one_table
from kvspark.table.input.pinned_file import PinnedObject
from kvspark.table.objects.objects import Listed, Objects
from kvspark.table.objects.storage import Storage, bucket_of
from kvspark.table.place.opening import open_objects
from kvspark.table.publish.object_table import RUNS, ObjectTable
from kvspark.table.publish.pointer import POINTER_NAME

_LISTINGS = 3
"""Of all folders of runs, beside a run that removes some."""
_PATTERN = re.compile(r"[*?\[]")
_SIGNS = (
    (
        re.compile(r"(?:^|/)_delta_log/"),
        "a Delta Lake table",
        "set input.format: delta and name its folder",
    ),
    (
        re.compile(r"(?:^|/)\.hoodie(?:/|$)"),
        "an Apache Hudi table",
        "write its rows to Parquet first",
    ),
    (
        re.compile(r"(?:^|/)metadata/[^/]*\.metadata\.json$"),
        "an Apache Iceberg table",
        "set input.format: iceberg and name the table as its catalog does",
    ),
)


@final
@dataclass(frozen=True, slots=True)
class ObjectsFound:
    """The objects of an input."""

    files: tuple[InputFile, ...]
    runs: tuple[str, ...]
    """The runs of kvspark that published them, where it was kvspark."""


def list_objects(urls: Sequence[str], options: Mapping[str, str]) -> ObjectsFound:
    """The objects that `urls` name, or that lie in the folders that they name.

    Raises:
        DataError: there is none, or as `list_files` says it of folders.
        SecretError: the store refuses the credentials.
        UsageError: a URL names no bucket, has a pattern, or lies in another one: its rows would be read twice.
    """
    roots = [_Root.of(url, options) for url in urls]
    _refuse_twice(roots)
    by_root: dict[str, Sequence[InputFile]] = {}
    runs = []
    for root in roots:
        try:
            run, files = _found(root)
        except PermissionError as exc:
            raise SecretError(f"input: {exc}; nothing was written") from None
        except OSError as exc:
            raise DataError(f"input: {exc}; nothing was written") from None
        by_root[root.url] = files
        runs += [run] if run else []
    return ObjectsFound(tuple(one_table(by_root)), tuple(runs))


@final
@dataclass(frozen=True, slots=True)
class _Root:
    """An object, or a folder of objects."""

    bucket: Storage
    key: str

    @classmethod
    def of(cls, url: str, options: Mapping[str, str]) -> _Root:
        try:
            bucket, key = bucket_of(url, options)
        except ValueError:
            raise UsageError(
                f"input path {url} names no bucket; write SCHEME://BUCKET/FOLDER"
            ) from None
        if _PATTERN.search(key):
            raise UsageError(
                f"input path {url} has a pattern, which is not expanded in object stores; name the folder, and choose from "
                "it with input.partitions"
            )
        return cls(bucket, key)

    @property
    def url(self) -> str:
        return f"{self.bucket.url}/{self.key}" if self.key else self.bucket.url

    def file(self, each: Listed, folders: Sequence[str] = ()) -> InputFile:
        if not each.tag:
            raise OSError(f"{self.url}: the store gives objects no ETag, so nobody sees a change")
        pinned = PinnedObject(self.bucket, each.name, each.size_bytes, each.tag)
        return InputFile(pinned, each.size_bytes, partition_of(self.url, folders))


def _refuse_twice(roots: Sequence[_Root]) -> None:
    for place, one in enumerate(roots):
        for other in roots[:place]:
            inner, outer = sorted((one, other), key=lambda root: -len(root.key))
            if one.bucket == other.bucket and f"{inner.key}/".startswith(
                f"{outer.key}/" if outer.key else ""
            ):
                raise UsageError(
                    f"input.paths names {inner.url} and {outer.url}, which holds it: its rows would be read twice; nothing "
                    "was written, name one of them"
                )


def _found(root: _Root) -> tuple[str | None, list[InputFile]]:
    """The run that published the objects of `root`, where it is known, and the objects."""
    store = open_objects(root.bucket)
    _refuse_inside(store, root)
    one = store.stat(root.key) if root.key else None
    if one is not None and one.size_bytes:
        return None, [root.file(one)]
    listed = sorted(store.listed(root.key), key=lambda each: each.name.split("/"))
    names = {each.name.removeprefix(f"{root.key}/" if root.key else "") for each in listed}
    # In HDFS the pointer is a folder.
    if any(f"{name}/".startswith(f"{POINTER_NAME}/") for name in names):
        return _published(root)
    for name in names:
        _refuse(name, root, "holds")
    if not listed:
        raise DataError(
            f"input path {root.url} does not exist; nothing was written, check input.paths and whether the job that makes "
            "it has run"
        )
    return None, list(_table_files(root, listed))


def _table_files(root: _Root, listed: Sequence[Listed]) -> Iterator[InputFile]:
    for each in listed:
        *folders, name = each.name.removeprefix(f"{root.key}/" if root.key else "").split("/")
        if not name or any(map(is_hidden, (*folders, name))):
            continue
        if any("=" not in folder for folder in folders):
            raise DataError(
                f"input path {root.url}: Spark does not read the files in {'/'.join((root.url, *folders))}, which is no "
                "partition "
                "(column=value); name that folder in input.paths or move it away"
            )
        yield root.file(each, folders)


def _published(root: _Root) -> tuple[str, list[InputFile]]:
    """The files of the run that the pointer of `root` names."""
    table = ObjectTable(open_objects(Storage(root.url, root.bucket.options)))
    try:
        pointer, _ = table.read()
        if pointer is None or pointer.current is None:
            raise DataError(
                f"input path {root.url} has no output yet: no run has published there; nothing was written"
            )
        version = pointer.current
        listed = table.files(version)
    except OutputError as exc:
        raise DataError(f"input: {exc}") from None
    below = "/".join(filter(None, (root.key, RUNS)))
    there = _there(root, below, {share.attempt for share in listed.shares})
    wanted = zip(listed.paths, listed.folders, strict=True)
    files = []
    for path, folder in sorted(wanted):
        each = there.get(f"{below}/{path}")
        if each is None:
            raise DataError(
                f"input path {root.url}: {RUNS}/{path} of the run {version.run_id} is gone; nothing was written, start the run "
                "again"
            )
        files.append(root.file(each, folder.split("/") if folder else ()))
    return version.run_id, files


def _there(root: _Root, below: str, attempts: Collection[str]) -> Mapping[str, Listed]:
    """What is in the folders `attempts` in `below`, by name."""
    store = open_objects(root.bucket)
    if len(attempts) == 1:
        (attempt,) = attempts
        return {each.name: each for each in store.listed(f"{below}/{attempt}")}
    for _ in range(_LISTINGS - 1):
        # Meanwhile a folder of HDFS that nobody needs may be removed.
        with suppress(FileNotFoundError):
            return {each.name: each for each in store.listed(below)}
    return {each.name: each for each in store.listed(below)}


def _refuse_inside(store: Objects, root: _Root) -> None:
    """Does nothing if no folder above `root` is a table of another format."""
    parts = root.key.split("/") if root.key else []
    for depth in range(len(parts)):
        for sign in ("_delta_log", ".hoodie", "metadata"):
            above = "/".join([*parts[:depth], sign])
            for each in store.listed(above):
                _refuse(each.name.removeprefix(above.removesuffix(sign)), root, "lies in")


def _refuse(name: str, root: _Root, where: str) -> None:
    for sign, what, advice in _SIGNS:
        if sign.search(name):
            raise DataError(
                f"input path {root.url} {where} {what} ({name}): its Parquet files also hold rows that were deleted or "
                "never committed, which only its log tells apart, and input.format: parquet reads the files alone; nothing was "
                f"written, {advice}"
            )
