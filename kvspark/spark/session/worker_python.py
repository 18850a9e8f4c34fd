"""Whether the Python that Spark starts for workers is one that can do our work, said before it tries.

Spark starts `PYSPARK_PYTHON`, else the `python3` that it finds first, which is often not the Python that the
driver runs in: without kvspark, or with another torch, whose results are others.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F

from kvspark._version import __version__
from kvspark.errors import UsageError
from kvspark.spark.session.connect import is_connect

_LOG = logging.getLogger(__name__)

_LOCAL = re.compile(r"local(\[.*\])?")
CHECKED_KEY = "spark.kvspark.workerPythonChecked"
"""A setting of the session: the program that was looked at."""

_OTHER_PYTHON = re.compile(
    r"different (?:minor )?version(?:s)?: (\S+) than that in (?:the )?driver:? (\S+?),"
)
_NO_PROGRAM = re.compile(r'Cannot run program "([^"]+)"')


def check_worker_python(spark: SparkSession) -> None:
    """Returns once it is known that workers can import this kvspark; looks once a session.

    With a local master, and nothing said about the workers' Python, they get the driver's. Elsewhere, and where
    somebody has named another one, one task of one worker says what it has; it stands for all of them.

    Raises:
        UsageError: there is no such program, it has no kvspark, or another Python, kvspark or torch than here;
            says what each side has and what to set.
    """
    program = _program(spark)
    if program is not None and _is_local(spark):
        if _is_this(program):
            return
        if "PYSPARK_PYTHON" not in os.environ:
            _LOG.info("workers run %s, as the driver does, and not %s", sys.executable, program)
            spark.sparkContext.pythonExec = sys.executable
            return
    named = program or "the server's"
    if spark.conf.get(CHECKED_KEY, "") == named:
        return
    try:
        (told,) = spark.range(1).select(_probe()("id").alias("told")).collect()
    except Exception as exc:
        trouble = worker_trouble(named, str(exc))
        if trouble is None:
            raise
        raise UsageError(trouble) from exc
    if trouble := _difference(json.loads(told.told)):
        raise UsageError(trouble)
    spark.conf.set(CHECKED_KEY, named)


def _program(spark: SparkSession) -> str | None:
    """What Spark starts for a worker; None under Spark Connect, whose server knows."""
    return None if is_connect(spark) else str(spark.sparkContext.pythonExec)


def _is_local(spark: SparkSession) -> bool:
    """True if workers run on this machine; an equal path on another one may be another Python, or none."""
    return _LOCAL.fullmatch(spark.sparkContext.master or "") is not None


def _is_this(program: str) -> bool:
    """True if `program` is the driver's own, on this machine: in one folder with it, links not followed."""
    found = shutil.which(program)
    here = Path(sys.executable)
    return found is not None and Path(found).parent.absolute() == here.parent.absolute()


def _probe() -> Callable[..., Column]:
    # It is pickled by value, because its name cannot be looked up: it runs where there is no kvspark.
    def told(_: int) -> str:
        import json
        import platform
        import socket
        import sys

        has = {"python": platform.python_version()}
        has |= {"program": sys.executable, "host": socket.gethostname()}
        try:
            import kvspark

            has["kvspark"] = kvspark.__version__
        except ImportError:
            return json.dumps(has)
        from importlib.metadata import PackageNotFoundError, version

        try:
            has["torch"] = version("torch")
        except PackageNotFoundError:
            return json.dumps(has)
        return json.dumps(has)

    made: Callable[..., Column] = F.udf(told, "string", useArrow=False)
    return made


def _difference(has: dict[str, str]) -> str | None:
    """What `has` of a worker lacks of what the driver has; None if nothing."""
    worker = f"{has['program']} on {has['host']}"
    own = {"kvspark": __version__, "torch": _version("torch")}
    for package, here in own.items():
        there = has.get(package)
        if there != here:
            return (
                f"the workers' Python ({worker}) has {f'{package} {there}' if there else f'no {package}'} and the "
                f"driver's ({sys.executable}) has {package} {here}; {_advice()}"
            )
    return None


def worker_trouble(named: str, text: str) -> str | None:
    """What `text`, the error of a probe, says of the workers' Python; None if nothing."""
    if found := _NO_PROGRAM.search(text):
        return f"the workers' Python {found[1]} is not there; {_advice()}"
    if found := _OTHER_PYTHON.search(text):
        return (
            f"the workers' Python ({named}) is {found[1]} and the driver's ({sys.executable}) is {found[2]}; "
            f"{_advice()}"
        )
    return None


def _advice() -> str:
    return (
        f"set PYSPARK_PYTHON to a Python that has the same packages on every machine (here: {sys.executable}) and make "
        "a new session, or pip install kvspark there"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
