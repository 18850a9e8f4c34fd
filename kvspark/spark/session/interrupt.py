"""SIGINT, SIGTERM and SIGHUP: what they raise, what they wait for, and what is said of them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import final

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@final
class Interrupted(BaseException):
    """Raised in the main thread by a signal, where the command line has asked for it.

    Not a KeyboardInterrupt: click makes something else of one, and pyspark's own handler raises them.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number
        """As a shell reports a process that the signal has ended."""
        self.told: str | None = None
        """What was going on and what became of it, on one line."""

    def tell(self, text: str) -> None:
        """Says what was going on, unless somebody who knew it better has said it."""
        self.told = self.told or text


def interrupt_in(error: BaseException) -> Interrupted | None:
    """The interruption that `error` is, or that was under way when `error` was raised; None without."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        if isinstance(found, Interrupted):
            return found
        seen.add(id(found))
        found = found.__cause__ or found.__context__
    return None


@contextmanager
def telling(text: Callable[[], str]) -> Iterator[None]:
    """An interruption inside says `text()`, and is what leaves, whatever was raised on its way."""
    try:
        yield
    except BaseException as exc:
        found = interrupt_in(exc)
        if found is None:
            raise
        found.tell(text())
        if found is exc:
            raise
        raise found from None


@contextmanager
def held() -> Iterator[None]:
    """Signals that arrive meanwhile are handled at its end, as they would have been.

    Only the main thread handles signals; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        arrived.append(number)

    before = {number: signal.getsignal(number) for number in SIGNALS}
    # None is a handler that is not Python's, and cannot be put back.
    mine = {number: how for number, how in before.items() if how not in {None, signal.SIG_IGN}}
    for number in mine:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, how in mine.items():
            signal.signal(number, how)
        if arrived:
            signal.raise_signal(arrived[0])


@contextmanager
def handler_kept() -> Iterator[None]:
    """Keeps the handler of SIGINT, in whose place pyspark puts its own, if it is not Python's own."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        is_plain = before in {None, signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler}
        if not is_plain and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
