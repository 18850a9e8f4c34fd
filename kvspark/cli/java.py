"""Whether Spark can start a JVM here, said before it tries."""

from __future__ import annotations

import os
import shutil

from kvspark.errors import UsageError


def check_java(master: str | None) -> None:
    """Does nothing if Spark finds a Java here, or needs none.

    Raises:
        UsageError: Spark has to start a JVM and there is no Java.
    """
    is_remote = master is not None and master.startswith("sc://")
    if is_remote or os.environ.get("JAVA_HOME") or shutil.which("java"):
        return
    raise UsageError(
        "Spark needs Java 17 or later and there is no java; "
        "run apt-get install openjdk-17-jre-headless, or set JAVA_HOME"
    )
