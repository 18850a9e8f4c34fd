"""Calls of the client that come back: it waits for ever for a NameNode that hangs, and for some DataNodes that die."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

MOST_S = 120.0
"""More than the client takes for all repetitions of a request, and twice what Hadoop's own waits for a packet."""


def bounded(call: Callable[[], T]) -> T:
    """What `call` returns.

    It runs in a thread of its own, so that a signal is not kept waiting either.

    Raises:
        TimeoutError: it has not returned after `MOST_S`. It goes on where nobody waits for it, and may still be done.
    """
    made: list[Any] = []
    raised: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        try:
            made.append(call())
        except BaseException as exc:  # noqa: BLE001 - raised below, where it is waited for
            raised.append(exc)
        finally:
            ended.set()

    threading.Thread(target=run, name="kvspark-hdfs", daemon=True).start()
    if not ended.wait(MOST_S):
        raise TimeoutError(f"no answer after {MOST_S:g} s")
    if raised:
        raise raised[0]
    result: T = made[0]
    return result
