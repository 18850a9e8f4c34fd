"""What the demo says while it works."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

from rich.console import Console


@final
class Steps:
    """Says one thing after the other on a console, and how long each of them took."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, what: str, *, shows_itself: bool = False) -> Iterator[None]:
        """Says `what` when it is done, with its seconds, and before that if nothing else would.

        What `shows_itself` draws its own progress, which a spinner would tear apart.
        """
        started = time.perf_counter()
        if shows_itself:
            yield
        else:
            with self._console.status(what):
                yield
        seconds = time.perf_counter() - started
        self._console.print(f"{seconds:6.1f} s  {what}", highlight=False, soft_wrap=True)

    def heading(self, what: str) -> None:
        """Begins a new part."""
        self._console.print(f"[bold]{what}", highlight=False)
