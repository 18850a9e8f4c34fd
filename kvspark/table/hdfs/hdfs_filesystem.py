"""A folder of HDFS as a file system of Arrow, as far as segments of a cold tier need one."""

from __future__ import annotations

import io
from typing import Any, NoReturn, final

import pyarrow as pa
import pyarrow.fs as pafs

from kvspark.table.hdfs.bounded import bounded
from kvspark.table.hdfs.hdfs_files import FileStatus, HdfsFiles
from kvspark.table.hdfs.hdfs_reader import HdfsReader
from kvspark.table.hdfs.refusals import telling
from kvspark.table.objects.readable_file import readable_file
from kvspark.table.objects.storage import Storage


def hdfs_filesystem(storage: Storage) -> pafs.FileSystem:
    """The files below `storage`, by their paths in it.

    Raises:
        UsageError: as `HdfsFiles`.
    """
    HdfsFiles(storage)
    return pafs.PyFileSystem(_Handler(storage))


@final
class _Handler(pafs.FileSystemHandler):  # type: ignore[misc]  # pyarrow has no types
    """Its methods raise OSError as `HdfsFiles` does."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Handler) and other._storage == self._storage

    __hash__ = None  # type: ignore[assignment]  # Arrow asks for none

    @property
    def _files(self) -> HdfsFiles:
        """Of this process: the client's threads are not in one that was forked."""
        return HdfsFiles(self._storage)

    def get_type_name(self) -> str:
        return "hdfs"

    def normalize_path(self, path: str) -> str:
        return path.strip("/")

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        return [self._info(path.strip("/")) for path in paths]

    def get_file_info_selector(self, selector: Any) -> list[pafs.FileInfo]:
        found = self._files.listed(selector.base_dir.strip("/"), deep=selector.recursive)
        return [_told(each) for each in found]

    def create_dir(self, path: str, recursive: bool) -> None:  # noqa: FBT001 - Arrow's signature
        self._files.make_folder(path.strip("/"), makes_folders=recursive)

    def delete_file(self, path: str) -> None:
        self._files.delete(path.strip("/"))

    def move(self, src: str, dest: str) -> None:
        self._files.move(src.strip("/"), dest.strip("/"))

    def open_input_file(self, path: str) -> pa.PythonFile:
        return readable_file(HdfsReader(self._files, path.strip("/")))

    def open_input_stream(self, path: str) -> pa.PythonFile:
        return self.open_input_file(path)

    def open_output_stream(self, path: str, metadata: Any) -> pa.PythonFile:
        del metadata
        return pa.PythonFile(_Writer(self._files, path.strip("/")), mode="w")

    def delete_dir(self, path: str) -> NoReturn:
        _refuse(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> NoReturn:  # noqa: FBT001, FBT002 - as above
        _refuse(path, missing_dir_ok)

    def delete_root_dir_contents(self) -> NoReturn:
        _refuse()

    def copy_file(self, src: str, dest: str) -> NoReturn:
        _refuse(src, dest)

    def open_append_stream(self, path: str, metadata: Any) -> NoReturn:
        _refuse(path, metadata)

    def _info(self, path: str) -> pafs.FileInfo:
        status = self._files.status(path)
        return pafs.FileInfo(path, pafs.FileType.NotFound) if status is None else _told(status)


@final
class _Writer(io.RawIOBase):
    """A new file of HDFS, of which others see a part before it is closed."""

    def __init__(self, files: HdfsFiles, path: str) -> None:
        self._what = f"{files.url}/{path}"
        self._writer = files.writer(path, makes_folders=True)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        payload = bytes(data)
        with telling(self._what):
            bounded(lambda: self._writer.write(payload))
        return len(payload)

    def close(self) -> None:
        if not self.closed:
            super().close()
            with telling(self._what):
                bounded(self._writer.close)


def _told(status: FileStatus) -> pafs.FileInfo:
    kind = pafs.FileType.Directory if status.is_folder else pafs.FileType.File
    return pafs.FileInfo(status.path, kind, size=None if status.is_folder else status.size_bytes)


def _refuse(*what: object) -> NoReturn:
    del what
    raise NotImplementedError("segments are made, read and removed")
