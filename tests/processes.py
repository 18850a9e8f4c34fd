"""Other processes of a test: how they are, and signals that have taken effect on return."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

STOP_S = 10.0


def state(pid: int) -> str:
    """The letter that proc(5) gives the state of a process; "gone" without one."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return "gone"
    return stat.rpartition(")")[2].split()[0]


def send(pid: int, number: signal.Signals) -> None:
    """Sends a signal. After SIGSTOP the process runs no more: kill(2) alone does not wait for it."""
    os.kill(pid, number)
    ends = time.monotonic() + STOP_S
    while number == signal.SIGSTOP and state(pid) not in {"T", "Z", "gone"}:
        assert time.monotonic() < ends, f"process {pid} did not stop"
