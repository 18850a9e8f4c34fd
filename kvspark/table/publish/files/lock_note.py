"""What the holder of a lock file says of itself in it."""

from __future__ import annotations

import json
import os
import socket
from datetime import datetime, timezone

from kvspark.errors import RunLockedError
from kvspark.table.publish.dead_run import DeadRun

NOTE_BYTES = 4096
"""A note is shorter."""


def note_of(run_id: str) -> bytes:
    """What run `run_id` of this process says."""
    note = {
        "run": run_id,
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    return json.dumps(note).encode()


def holder_in(note: bytes) -> DeadRun | None:
    """The run that has left `note`; None if there is none, or it died before it had written it."""
    try:
        holder = json.loads(note)
        return DeadRun(str(holder["run"]), str(holder["since"]))
    except (ValueError, KeyError, TypeError):
        return None


def locked(url: object, note: bytes) -> RunLockedError:
    """The error of a run that comes upon a lock of the output `url` whose holder has left `note`."""
    try:
        holder = json.loads(note)
        who = "run {run} holds it since {since} (process {pid} on {host})".format_map(holder)
    except (ValueError, KeyError, TypeError):  # it has the lock and has not written its note yet
        who = "another run has just taken it"
    return RunLockedError(
        f"output path {url}: {who}; nothing was written, start again when it has ended"
    )
