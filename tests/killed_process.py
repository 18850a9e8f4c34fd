"""A function that runs in another process and is killed at a named point; started in a tenth of a new Python's time."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from kvspark.fault import FAULT_POINT_ENV

_IMPORTED = ["tests.spark.publishing", "tests.table.publish.targets"]
"""By the process that all others are forked from, which does nothing else: no thread of it could be in the way."""
_MOST_S = 120


def killed_at(point: str, function: Callable[..., object], *arguments: Any) -> None:
    """Calls `function` in a process that dies at the fault point `point`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    environment = {**os.environ, FAULT_POINT_ENV: point}
    process = context.Process(target=_call, args=(environment, function, arguments))
    process.start()
    process.join(_MOST_S)
    assert process.exitcode == -signal.SIGKILL, (point, process.exitcode)


def _call(
    environment: Mapping[str, str], function: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    function(*arguments)
