"""Where the tasks of a run write."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import pyarrow as pa


class OutputFile(Protocol):
    """A file that is written front to back."""

    def write(self, data: bytes | pa.Buffer) -> object:
        """Adds `data`."""
        ...

    def flush(self) -> None:
        """Hands what is written on, as far as the place can."""
        ...

    def close(self) -> None:
        """Makes the file complete, on disk or in the store, under its name."""
        ...

    def abandon(self) -> None:
        """Leaves nothing of the file, as far as the place lets it; never raises."""
        ...


class Place(ABC):
    """Files by their paths; a value that travels to workers.

    A place is opened by the driver and closed by it. A task that lives on after that can make no file in it.
    """

    @property
    @abstractmethod
    def url(self) -> str:
        """What messages call it."""

    @abstractmethod
    def path(self, name: str, folder: str) -> str:
        """What the file `name` of the table's folder `folder` is called in this place."""

    def location(self, path: str) -> str:
        """The path or URL of a file that is complete, by its path in this place."""
        return f"{self.url}/{path}"

    @abstractmethod
    def create(self, path: str) -> OutputFile:
        """A new file.

        Raises:
            OSError: there is no such place any more, or it refuses.
        """

    @abstractmethod
    def delete(self, path: str) -> None:
        """Removes a file that is complete.

        Raises:
            OSError: the place refuses.
        """


class OpenedPlace(Place):
    """A place of which a driver says when tasks may write."""

    @abstractmethod
    def open(self) -> None:
        """From now on tasks can make files.

        Raises:
            OSError: the place refuses.
        """

    @abstractmethod
    def close(self) -> None:
        """No task can make a file any more. Does nothing for a place that is closed.

        Raises:
            OSError: the place refuses.
        """
