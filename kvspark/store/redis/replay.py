"""The windows of a call that is made again elsewhere if nothing came of it here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar, final

T = TypeVar("T")


@final
class Repeatable(Generic[T]):
    """Gives `windows`, from the first one each time, until `settle` is called.

    No more of them are kept than were asked for by then: the two or three that are on their way.
    """

    def __init__(self, windows: Iterable[T]) -> None:
        self._rest = iter(windows)
        self._given: list[T] = []
        self.is_settled = False
        """True once something came of the call, so that it is not made again."""

    def __iter__(self) -> Iterator[T]:
        yield from [*self._given]
        for window in self._rest:
            if not self.is_settled:
                self._given.append(window)
            yield window

    def settle(self) -> None:
        """What was given stays given."""
        self.is_settled = True
        self._given.clear()
