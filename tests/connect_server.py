"""What a process needs in its environment to start a server of Spark Connect beside another one."""

from __future__ import annotations

import os
import sys


def connect_environment(root: str) -> dict[str, str]:
    """The environment of a program that starts a server; `root` is the repository's folder.

    SPARK_TESTING is what Spark's own tests set: the server then takes a free port instead of 15002,
    and its client asks for it. The server's workers do not run in the folder of the repository.
    """
    return {
        **os.environ,
        "SPARK_TESTING": "1",
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": root,
    }
