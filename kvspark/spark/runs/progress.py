"""What a person who waits for a table sees: rows done of all, the hit rate and the time that is left.

On a terminal one line that changes; elsewhere, for cron's mail and a scheduler's log, a line every half
minute. Where the numbers come from is said in `kvspark.spark.runs.rows_done`.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from kvspark.wording import count_of

log = logging.getLogger(__name__)

TERMINAL_S = 0.5
LINE_S = 30.0
_SHOWN_FROM = 0.01
"""Of the rows: a time that is left is no guess any more."""


@final
@dataclass(frozen=True, slots=True)
class Look:
    """What is known at one moment of a table that is being scored."""

    rows: int
    """That have left the workers."""
    all_rows: int
    tasks: int
    """That have ended."""
    all_tasks: int
    lookups: int = 0
    """Of the tasks that have ended."""
    hits: int = 0

    def line(self, elapsed_s: float) -> str:
        """The moment in words, `elapsed_s` after the beginning.

        Guarantees: neither a rate nor a time is said before something was measured.
        """
        so_far = f"{duration(elapsed_s)} so far"
        if self.rows == 0:
            return f"{self._none_yet()}, {so_far}"
        part = int(100 * self.rows / self.all_rows)
        return f"{self._rows()} ({part} %){self._rate()}, {so_far}{self._left(elapsed_s)}"

    def short(self, elapsed_s: float) -> str:
        """The same beside a bar, for 80 columns."""
        if self.rows == 0:
            return self._none_yet()
        return f"{self._rows()}{self._rate()}{self._left(elapsed_s)}"

    def _none_yet(self) -> str:
        tasks = f", {self.tasks:,} of {self.all_tasks:,} tasks" if self.tasks else ""
        return f"no rows of {self.all_rows:,} yet{tasks}"

    def _rows(self) -> str:
        return f"{self.rows:,} of {count_of(self.all_rows, 'row')}"

    def _rate(self) -> str:
        return f", hit rate {self.hits / self.lookups:.1%}" if self.lookups else ""

    def _left(self, elapsed_s: float) -> str:
        left_s = self.left_s(elapsed_s)
        is_known = left_s is not None and self.rows < self.all_rows
        return f", about {duration(left_s or 0.0)} left" if is_known else ""

    def left_s(self, elapsed_s: float) -> float | None:
        """Seconds that the other rows will take if they take what these took; None if too few are done."""
        part = self.rows / self.all_rows if self.all_rows else 1.0
        return elapsed_s * (1 - part) / part if part >= _SHOWN_FROM else None


class Ended(Protocol):
    """What tells a watcher that there is nothing more to see; `threading.Event` does."""

    def wait(self, timeout: float) -> bool:
        """True at once when it has ended, False after `timeout` seconds."""
        ...


@contextmanager
def progress(name: str, look: Callable[[], Look]) -> Iterator[None]:
    """Shows, until it ends, what `look` sees: in a line on a terminal, else in one every half minute."""
    ended = threading.Event()
    show = on_terminal if sys.stderr.isatty() else in_lines

    def watch() -> None:
        try:
            show(name, look, ended)
        except Exception:  # Spark is going down, and whoever waits is told so elsewhere.
            log.debug("nothing more to see of %s", name, exc_info=True)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def in_lines(
    name: str, look: Callable[[], Look], ended: Ended, clock: Callable[[], float] = time.monotonic
) -> None:
    """Logs a line every half minute until it has ended."""
    started = clock()
    while not ended.wait(LINE_S):
        log.info("%s: %s", name, look().line(clock() - started))


def on_terminal(
    name: str,
    look: Callable[[], Look],
    ended: Ended,
    clock: Callable[[], float] = time.monotonic,
    console: Console | None = None,
) -> None:
    """Keeps one line of a terminal up to date until it has ended, and takes it away then."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[told]}"),
    )
    started = clock()
    with Progress(
        *columns, console=console or Console(stderr=True), transient=True, expand=True
    ) as bar:
        task = bar.add_task(name, total=None, told="")
        while not ended.wait(TERMINAL_S):
            now = look()
            total = now.all_rows if now.rows else None  # without one, the bar says that it waits
            bar.update(task, completed=now.rows, total=total, told=now.short(clock() - started))


def duration(seconds: float) -> str:
    """`seconds` as people say them: 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
