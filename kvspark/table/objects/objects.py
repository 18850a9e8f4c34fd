"""Objects by name, with conditional writes: all that kvspark asks of the place where a table lies."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, final


@final
class ObjectChangedError(OSError):
    """Raised when an object is not what a conditional request expects."""


@final
@dataclass(frozen=True, slots=True)
class Listed:
    """An object of a listing."""

    name: str
    size_bytes: int
    modified_at: datetime
    tag: str | None = None
    """What tells it from its other versions, where the store says it."""


@final
@dataclass(frozen=True, slots=True)
class Stored:
    """An object and what tells it from its other versions."""

    data: bytes
    tag: str
    modified_at: datetime
    """By the clock of the store."""


class Objects(ABC):
    """The objects below one URL. Each is there whole, or not at all.

    Every method raises OSError where the store refuses or does not answer; its text is one line and holds no
    secret. It is a PermissionError where the credentials are the reason.
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """Of all of them, without a slash at its end."""

    @abstractmethod
    def get(self, name: str) -> Stored | None:
        """The object; None if there is none."""

    @abstractmethod
    def size_bytes(self, name: str) -> int | None:
        """Bytes of the object; None if there is none."""

    @abstractmethod
    def stat(self, name: str) -> Listed | None:
        """What a listing says of the object, with its tag; None if there is none."""

    @abstractmethod
    def part(self, name: str, start: int, end: int, tag: str) -> bytes:
        """Bytes `start` to `end` of the object as it was when it had `tag`.

        Raises:
            ObjectChangedError: it has another tag now.
        """

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Makes the object, whatever was there."""

    @abstractmethod
    def put_if(self, name: str, data: bytes, tag: str | None) -> str:
        """Makes the object, if it still has `tag`, or is not there for None; its new tag.

        An object that is written so is never written by `put`, nor deleted.

        Raises:
            ObjectChangedError: another writer was first, or this one, whose answer was lost.
        """

    @abstractmethod
    def delete(self, names: Sequence[str]) -> None:
        """Removes objects; none need be there."""

    @abstractmethod
    def delete_folder(self, folder: str) -> None:
        """Removes all objects below `folder`; none need be there."""

    @abstractmethod
    def delete_folders(self, folders: Mapping[str, Collection[str]]) -> None:
        """Removes what was listed of each folder, by the paths in it, and the folder where there are such."""

    @abstractmethod
    def listed(self, folder: str = "") -> Iterator[Listed]:
        """The objects below `folder`, however deep."""

    @abstractmethod
    def folders(self, folder: str) -> list[str]:
        """The names that follow `folder/` before another slash."""

    @abstractmethod
    def reader(self, name: str) -> Any:
        """A file that is read at any place: `read(size | None)`, `seek`, `tell`, `size`."""
