"""Finding the files that a table lists, as they are now, and whether they are so still."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kvspark.errors import DataError, SecretError
from kvspark.table.input.pinned_file import PinnedFile, PinnedObject, PinnedPath
from kvspark.table.objects.storage import bucket_of, is_remote
from kvspark.table.place.opening import open_objects

_THREADS = 16  # of requests without bytes: the wait is for the network


def pinned_files(
    locations: Sequence[str], options: Mapping[str, str], *, called: str = "input"
) -> list[PinnedFile]:
    """The files at `locations`, paths or URLs, in order; `options` are those of their object store.

    `called` is what messages call their table.

    Raises:
        DataError: one is not there, or cannot be looked at.
        SecretError: the object store refuses the credentials.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(lambda location: _pinned(location, options, called), locations))


def check_unchanged(files: Sequence[PinnedFile]) -> None:
    """Does nothing if all `files` are as they were found.

    Raises:
        DataError: one was written or removed meanwhile, or cannot be looked at; names it.
        SecretError: the object store refuses the credentials.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        for file, is_so in zip(files, pool.map(_is_as_it_was, files), strict=True):
            if not is_so:
                raise DataError(
                    f"input file {file.name} changed while the run read it; nothing was published, start the run again when "
                    "the input is complete"
                )


def _pinned(location: str, options: Mapping[str, str], called: str) -> PinnedFile:
    try:
        found = _at(location, options)
    except PermissionError as exc:
        raise SecretError(f"{called}: {exc}; nothing was written") from None
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise DataError(
            f"{called} file {location} is in the table and cannot be read ({reason}); nothing was written, look whether the "
            "table's files were removed, or read a version whose files are there"
        ) from None
    return found


def _at(location: str, options: Mapping[str, str]) -> PinnedFile:
    if not is_remote(location):
        return PinnedPath.at(Path(location))
    bucket, key = bucket_of(location, options)
    found = open_objects(bucket).stat(key)
    if found is None:
        raise FileNotFoundError("there is no such object")
    if not found.tag:
        raise OSError("the store gives objects no ETag, so nobody sees a change")
    return PinnedObject(bucket, key, found.size_bytes, found.tag)


def _is_as_it_was(file: PinnedFile) -> bool:
    try:
        if isinstance(file, PinnedPath):
            return file.is_as_found()
        assert isinstance(file, PinnedObject)
        now = open_objects(file.bucket).stat(file.key)
    except FileNotFoundError:
        return False
    except PermissionError as exc:
        raise SecretError(f"input: {exc}; nothing was published") from None
    except OSError as exc:
        raise DataError(f"input: {exc}; nothing was published") from None
    return now is not None and (now.size_bytes, now.tag) == (file.size_bytes, file.tag)
