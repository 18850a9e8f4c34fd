"""Other processes that use an embedded store, and the processes of the store itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

END_S = 20.0

CLIENT = """
import sys, time
from pathlib import Path
from kvspark.store.embedded.embedded import EmbeddedStore
from tests.store.calls import get_many, ping, set_many
store = EmbeddedStore(Path(sys.argv[1]))
"""


def client(folder: Path, script: str, **environ: str) -> subprocess.Popen[str]:
    """Another process with a `store` on the folder, that goes on with `script`."""
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT + script, str(folder)],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        text=True,
    )


def processes(folder: Path) -> list[psutil.Process]:
    """The folder's server and supervisor."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if folder.parent.name in line + _cwd(process) and (
            "kvspark-embedded" in line or "unixsocket" in line
        ):
            found.append(process)
    return found


def _cwd(process: psutil.Process) -> str:
    """The folder that a server runs in, which its command line does not name."""
    try:
        return process.cwd()
    except psutil.Error:
        return ""


def server_of(folder: Path) -> psutil.Process:
    (server,) = [each for each in processes(folder) if "unixsocket" in " ".join(each.cmdline())]
    return server


def supervisor_of(folder: Path) -> psutil.Process:
    (supervisor,) = [each for each in processes(folder) if "kvspark-embedded" in each.cmdline()]
    return supervisor


def wait_until(is_so: Callable[[], bool]) -> None:
    ends = time.monotonic() + END_S
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.02)


def settle(folder: Path) -> None:
    """Returns when the folder's server has saved and ended."""
    wait_until(lambda: not processes(folder))
