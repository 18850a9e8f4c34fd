"""A function that runs in another process, and is killed there or raises; started in a tenth of a new Python's time."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any

from kvspark.fault import FAULT_POINT_ENV

_IMPORTED = ["tests.spark.publishing", "tests.table.publish.targets"]
"""By the process that all others are forked from, which does nothing else: no thread of it could be in the way."""
_MOST_S = 120


def killed_at(point: str, function: Callable[..., object], *arguments: Any) -> None:
    """Calls `function` in a process that dies at the fault point `point`."""
    environment = {**os.environ, FAULT_POINT_ENV: point}
    process = _forking().Process(target=_call, args=(environment, function, arguments))
    process.start()
    process.join(_MOST_S)
    assert process.exitcode == -signal.SIGKILL, (point, process.exitcode)


def raised_by(function: Callable[..., object], *arguments: Any) -> tuple[str, str] | None:
    """The class and the text of what it raises in a process of its own; None if it raises nothing.

    A client that waits with Python's lock held leaves the threads of this process alone.
    """
    here, there = _forking().Pipe(duplex=False)
    process = _forking().Process(target=_told, args=(there, dict(os.environ), function, arguments))
    process.start()
    there.close()
    assert here.poll(_MOST_S), f"no answer within {_MOST_S} s"
    told: tuple[str, str] | None = here.recv()
    process.join(_MOST_S)
    assert process.exitcode == 0
    return told


def _forking() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def _told(
    there: Connection,
    environment: Mapping[str, str],
    function: Callable[..., object],
    arguments: tuple[Any, ...],
) -> None:
    try:
        _call(environment, function, arguments)
    except Exception as exc:  # noqa: BLE001 - whatever it is, the test judges it
        there.send((type(exc).__name__, str(exc)))
    else:
        there.send(None)


def _call(
    environment: Mapping[str, str], function: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)
