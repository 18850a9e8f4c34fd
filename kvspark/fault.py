"""Named places where a test may kill the driver or a worker, to prove what a dead run leaves behind.

The environment variable `KVSPARK_FAULT_POINT` names one of them, `KVSPARK_FAULT_SIGNAL` another signal than SIGKILL, and
`KVSPARK_FAULT_ONCE` a file that only one process can make, which is the one that is killed. A run that has no such
variables passes every point untouched. The names, in the order in which a run reaches them:

    locked
    told  moving  moved  sweeping  swept    where the workers write; they pass task_batch and task_file
    staged  collected  validated  reported  synced
    placed                         where there is an output to replace
    exchanged                      where the system can swap two folders
    moved_aside  moved_in          where it cannot
    settled  discarding  published

In an object store, and in a table of Delta or of Iceberg:

    locked  fencing  fenced  sweeping  swept  task_batch  task_file  staged  collected  validated  reported
    told  closed  synced  planned  published  discarding
    rewritten  merged              where rows are replaced by their ids; workers pass the first
    widened                        where a run that replaces partitions of a Delta table adds a column

A rollback passes `locked`, those from `placed` to `settled`, and `restored`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

FAULT_POINT_ENV = "KVSPARK_FAULT_POINT"
FAULT_SIGNAL_ENV = "KVSPARK_FAULT_SIGNAL"
FAULT_ONCE_ENV = "KVSPARK_FAULT_ONCE"


def fault_point(name: str) -> None:
    """Sends this process a signal, SIGKILL or the named one, if the environment names this point."""
    if os.environ.get(FAULT_POINT_ENV) == name and _is_mine():
        sent = os.environ.get(FAULT_SIGNAL_ENV, "SIGKILL")
        os.kill(os.getpid(), signal.Signals[sent])


def _is_mine() -> bool:
    once = os.environ.get(FAULT_ONCE_ENV)
    if once is None:
        return True
    try:
        Path(once).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True
