"""What torch.export writes to stderr besides the error that it raises: the graph as far as it came."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

_HINTS = "torch.fx.experimental.symbolic_shapes"


@contextmanager
def quiet_failures() -> Iterator[None]:
    """Inside it stderr is held back: written behind it, or dropped where it ends in an error, which says what is wrong."""
    held, hints = io.StringIO(), logging.getLogger(_HINTS)
    before = hints.level
    hints.setLevel(logging.ERROR)
    try:
        with redirect_stderr(held):
            yield
    finally:
        hints.setLevel(before)
    sys.stderr.write(held.getvalue())
