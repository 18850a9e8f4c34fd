"""Whether Spark can start a JVM here, said before it tries."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from kvspark.errors import UsageError

JAVA = 17
"""The oldest Java that Spark 4 runs on."""

_INSTALL = f"run apt-get install openjdk-{JAVA}-jre-headless"
_VERSION = re.compile(r'^JAVA_VERSION="(?:1\.)?(\d+)', re.MULTILINE)


def check_java(master: str | None) -> None:
    """Does nothing if Spark finds a Java here that it runs on, or needs none.

    Raises:
        UsageError: Spark has to start a JVM and there is no Java, or one that is too old.
    """
    is_remote = master is not None and master.startswith("sc://")
    if is_remote or "PYSPARK_GATEWAY_PORT" in os.environ:
        return  # a JVM runs already: spark-submit's
    home = os.environ.get("JAVA_HOME")
    # As Spark's own scripts look for it.
    program = Path(home, "bin/java") if home else Path(shutil.which("java") or "")
    if not os.access(program, os.X_OK) or program.is_dir():
        if home:
            raise UsageError(
                f"JAVA_HOME is {home}, where there is no bin/java; set it to the folder of a Java {JAVA} or "
                f"later, or unset it ({_INSTALL} where there is none)"
            )
        raise UsageError(
            f"Spark needs Java {JAVA} or later and there is no java; {_INSTALL}, or set JAVA_HOME"
        )
    found = _version(program)
    if found is not None and found < JAVA:
        where = "JAVA_HOME" if home else "java on PATH"
        raise UsageError(
            f"{where} is Java {found} ({program}); Spark needs Java {JAVA} or later: {_INSTALL}, and set "
            "JAVA_HOME to it"
        )


def _version(program: Path) -> int | None:
    """The release of the Java at `program`, as its folder says; None if it does not."""
    try:
        text = (program.resolve().parents[1] / "release").read_text("utf-8", "replace")
    except (OSError, IndexError):
        return None
    found = _VERSION.search(text)
    return None if found is None else int(found[1])
