"""Objects as a file system of Arrow that is only read."""

from __future__ import annotations

from typing import Any, NoReturn, final

import pyarrow as pa
import pyarrow.fs as pafs

from kvspark.table.objects.objects import Objects
from kvspark.table.objects.readable_file import readable_file


def object_filesystem(store: Objects) -> pafs.FileSystem:
    """The objects of `store`, by their names."""
    return pafs.PyFileSystem(_Handler(store))


@final
class _Handler(pafs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """What a dataset asks for that knows the names of its files."""

    def __init__(self, store: Objects) -> None:
        self._store = store

    def get_type_name(self) -> str:
        return "kvspark"

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        return [self._info(path) for path in paths]

    def open_input_file(self, path: str) -> pa.PythonFile:
        return readable_file(self._store.reader(path))

    def open_input_stream(self, path: str) -> pa.PythonFile:
        return self.open_input_file(path)

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info_selector(self, selector: Any) -> NoReturn:
        _refuse(selector)

    def create_dir(self, path: str, recursive: bool) -> NoReturn:  # noqa: FBT001 - Arrow's signature
        _refuse(path, recursive)

    def delete_dir(self, path: str) -> NoReturn:
        _refuse(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> NoReturn:  # noqa: FBT001, FBT002 - as above
        _refuse(path, missing_dir_ok)

    def delete_root_dir_contents(self) -> NoReturn:
        _refuse()

    def delete_file(self, path: str) -> NoReturn:
        _refuse(path)

    def move(self, src: str, dest: str) -> NoReturn:
        _refuse(src, dest)

    def copy_file(self, src: str, dest: str) -> NoReturn:
        _refuse(src, dest)

    def open_output_stream(self, path: str, metadata: Any) -> NoReturn:
        _refuse(path, metadata)

    def open_append_stream(self, path: str, metadata: Any) -> NoReturn:
        _refuse(path, metadata)

    def _info(self, path: str) -> pafs.FileInfo:
        size_bytes = self._store.size_bytes(path)
        if size_bytes is None:
            return pafs.FileInfo(path, pafs.FileType.NotFound)
        return pafs.FileInfo(path, pafs.FileType.File, size=size_bytes)


def _refuse(*what: object) -> NoReturn:
    del what
    raise NotImplementedError("what is published is only read")
