"""The objects of S3 and what speaks like it, of Google Cloud Storage and of Azure."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from typing import Any, NoReturn, final

from kvspark.errors import UsageError
from kvspark.table.objects.objects import Listed, ObjectChangedError, Objects, Stored
from kvspark.table.objects.storage import Storage

_RETRIES = {"max_retries": 5, "retry_timeout": timedelta(seconds=60)}
"""Of one request. A conditional write may be repeated, too: who is told that it failed must look what is there."""

_TIMEOUT = timedelta(seconds=30)
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 4
"""Parts of a file that travel at once; with `_PART_BYTES`, what an open file holds."""

_MOST_DELETED = 1_000
_STATUS = re.compile(r"status code: (\d+ [A-Za-z ]+)")
_REFUSED = re.compile(r"status code: 40[13] ")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_ADVICE = (
    ("NoSuchBucket", "; make the bucket, or name another"),
    (
        "error sending request",
        "; it did not answer: look at the network, and at `endpoint` of its `storage`",
    ),
)
"""What to do, by what the reason has."""

_SETTINGS = ("AWS_", "AZURE_", "GOOGLE_")
"""Variables of the environment that a client reads when it is opened."""


@final
class ObjectStore(Objects):
    """The objects below one URL.

    Raises:
        UsageError: the URL or an option is none that the client knows, or the client is not installed.

    Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    https://cloud.google.com/storage/docs/request-preconditions
    https://learn.microsoft.com/rest/api/storageservices/specifying-conditional-headers-for-blob-service-operations
    """

    def __init__(self, storage: Storage) -> None:
        self._url = storage.url
        # Who has set other credentials in a notebook gets another client.
        found = tuple(item for item in sorted(os.environ.items()) if item[0].startswith(_SETTINGS))
        self._store = _opened(storage.url, tuple(sorted(storage.options.items())), found)
        # Google's writes are conditional on the generation, the others' on the ETag.
        self._told_by = "version" if storage.url.lower().startswith("gs://") else "e_tag"

    @property
    def url(self) -> str:
        return self._url

    def get(self, name: str) -> Stored | None:
        import obstore

        with self.telling(name):
            try:
                answer = obstore.get(self._store, name)
                tag = self._tag(answer.meta)
                return Stored(bytes(answer.bytes()), tag, answer.meta["last_modified"])
            except FileNotFoundError:
                return None

    def size_bytes(self, name: str) -> int | None:
        import obstore

        with self.telling(name):
            try:
                return int(obstore.head(self._store, name)["size"])
            except FileNotFoundError:
                return None

    def stat(self, name: str) -> Listed | None:
        """The object without its bytes; None if there is none."""
        import obstore

        with self.telling(name):
            try:
                return _listed(obstore.head(self._store, name))
            except FileNotFoundError:
                return None

    def part(self, name: str, start: int, end: int, tag: str) -> bytes:
        """The bytes of an object from `start` up to `end`.

        Raises:
            ObjectChangedError: it has not `tag` any more.
        """
        import obstore
        from obstore.exceptions import PreconditionError

        with self.telling(name):
            try:
                options: Any = {"range": (start, end), "if_match": tag}
                return bytes(obstore.get(self._store, name, options=options).bytes())
            except (FileNotFoundError, PreconditionError) as exc:
                raise ObjectChangedError(
                    f"{self.url}/{name} was written or removed after the run had found it"
                ) from exc

    def put(self, name: str, data: bytes) -> None:
        import obstore

        with self.telling(name):
            obstore.put(self._store, name, data)

    def put_if(self, name: str, data: bytes, tag: str | None) -> str:
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotFoundError, PreconditionError

        with self.telling(name):
            try:
                mode: Any = "create" if tag is None else {self._told_by: tag}
                return self._tag(obstore.put(self._store, name, data, mode=mode))
            except (AlreadyExistsError, PreconditionError, NotFoundError) as exc:
                raise ObjectChangedError(f"{self.url}/{name} was changed by another run") from exc

    def delete(self, names: Sequence[str]) -> None:
        for start in range(0, len(names), _MOST_DELETED):
            some = names[start : start + _MOST_DELETED]
            if not self._deleted(some):
                # Where it is an error to delete what is not there, it ends the others' deletion.
                for name in some:
                    self._deleted([name])

    def delete_folder(self, folder: str) -> None:
        self.delete([each.name for each in self.listed(folder)])

    def delete_folders(self, folders: Mapping[str, Collection[str]]) -> None:
        self.delete([f"{folder}/{path}" for folder in folders for path in folders[folder]])

    def listed(self, folder: str = "") -> Iterator[Listed]:
        import obstore

        with self.telling(folder):
            for page in obstore.list(self._store, f"{folder}/" if folder else None):
                for each in page:
                    yield _listed(each)

    def folders(self, folder: str) -> list[str]:
        import obstore

        with self.telling(folder):
            found = obstore.list_with_delimiter(self._store, f"{folder}/")
            return sorted(each.rstrip("/").rpartition("/")[2] for each in found["common_prefixes"])

    def writer(self, name: str) -> Any:
        """A file whose `close` makes the object; one that is dropped makes none."""
        import obstore

        with self.telling(name):
            return obstore.open_writer(
                self._store, name, buffer_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
            )

    def reader(self, name: str) -> Any:
        import obstore

        with self.telling(name):
            return obstore.open_reader(self._store, name)

    def _deleted(self, names: Sequence[str]) -> bool:
        """False if the store said of one of them that it is not there."""
        import obstore

        with self.telling(names[0]):
            try:
                obstore.delete(self._store, [*names])
            except FileNotFoundError:
                return False
        return True

    def _tag(self, meta: Any) -> str:
        tag = meta[self._told_by]
        if not tag:
            raise OSError(
                "the object store gives objects no ETag or generation, so no write can be conditional"
            )
        return str(tag)

    @contextmanager
    def telling(self, name: str) -> Iterator[None]:
        """Turns what the client raises inside into an OSError of one line."""
        from obstore.exceptions import BaseError

        try:
            yield
        except ObjectChangedError:
            raise
        except (BaseError, OSError) as exc:
            _raise(f"{self.url}/{name}", exc)


def _raise(what: str, exc: Exception) -> NoReturn:
    from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

    text = str(exc)
    found: Iterable[re.Match[str]] = filter(None, (_STATUS.search(text), _CODE.search(text)))
    why = ", ".join(match.group(1).strip() for match in found) or _first_line(text)
    # An upload in parts tells of no kind of error, only of the status.
    is_refused = _REFUSED.search(text) is not None
    if is_refused or isinstance(exc, (PermissionDeniedError, UnauthenticatedError)):
        raise PermissionError(
            f"{what}: the object store refuses these credentials ({why}); they come from the environment, or are the machine's own"
        ) from None
    if isinstance(exc, FileNotFoundError):
        raise FileNotFoundError(f"{what}: there is no such object or bucket ({why})") from None
    advice = next((told for part, told in _ADVICE if part in why), "")
    raise OSError(f"{what}: the object store does not do it ({why}){advice}") from None


def _first_line(text: str) -> str:
    line = text.partition("\n")[0]
    # Between the two is the request, with its whole URL.
    before, _, after = line.partition(": Error performing")
    return (after.rpartition(" - ")[2] or before)[:200] or "no reason given"


def _listed(meta: Any) -> Listed:
    tag = meta["e_tag"]
    # Azure's listings have it without the quotes that its answers have.
    tag = f'"{tag}"' if tag and not tag.endswith('"') else tag
    return Listed(meta["path"], meta["size"], meta["last_modified"], tag)


@lru_cache(maxsize=64)
def _opened(
    url: str, options: tuple[tuple[str, str], ...], environment: tuple[tuple[str, str], ...]
) -> Any:
    del environment  # The client reads it itself.
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        raise UsageError(
            f"{url} needs a client of object stores, which is not installed; pip install 'kvspark[s3]'"
        ) from None
    settings: dict[str, Any] = dict(options)
    # Only where an endpoint says `http:`, as those in a private network do.
    client: dict[str, Any] = {"timeout": _TIMEOUT, "allow_http": True}
    try:
        return from_url(url, config=settings, client_options=client, retry_config=_RETRIES)  # type: ignore[call-overload]
    except (BaseError, ValueError) as exc:
        raise UsageError(
            f"{url} names no object store, or its `storage` no settings of one ({_first_line(str(exc))}); nothing was written"
        ) from None
