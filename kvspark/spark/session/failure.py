"""What Spark's exceptions mean to the person who started a run.

An error that a worker raised arrives as text inside Spark's own exception, behind a traceback; here
it becomes what it was.
"""

from __future__ import annotations

import re
import socket
from urllib.parse import unquote

from py4j.protocol import Py4JError  # type: ignore[import-untyped]  # it has no types
from pyspark import SparkContext

from kvspark import errors
from kvspark.config.job import JobConfig
from kvspark.errors import DataError, KvsparkError, OutputError

_OURS = re.compile(r"^kvspark\.errors\.(\w+): (.+)$", re.MULTILINE)
_READING = re.compile(r"while reading file (\S+?)\.?(?=\s|$)")
"""The file as a URL, with the full stop of Spark's sentence behind it."""
_PARQUET = re.compile(r"file:(?://)?(/\S+?\.parquet)")
_FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large")
_UNREADABLE = re.compile(
    r"FAILED_READ_FILE|checksum|ParquetDecodingException|is not a Parquet file"
)
_CODEC = re.compile(r"Class \S*?(\w+)Codec was not found")
_ENCODING = re.compile(r"Unsupported encoding: (\w+)")
_COLON = "Relative path in absolute URI"
"""What Hadoop says of a name with a colon in it: it takes what is before that for the scheme of a URL."""
_NO_VALUE = re.compile(
    r"\[((?:CAST|ARITHMETIC|BINARY_ARITHMETIC|DATETIME)_(?:INVALID_INPUT|OVERFLOW)|DIVIDE_BY_ZERO|INVALID_ARRAY_INDEX|"
    r"NUMERIC_VALUE_OUT_OF_RANGE)[\].]"
)
_NO_VALUE_STATE = re.compile(
    r"\[([A-Z_]+)(?:\.[A-Z_]+)*\].*?SQLSTATE: (?:22\w{3}|P0001|21000)", re.DOTALL
)
"""Every error of Spark that is about the data (class 22), or that an expression raised itself."""
_DIED = re.compile(r"Python worker exited unexpectedly \(crashed\)")
_SILENT = re.compile(r"terminated due to idle timeout \(timeout: (\d+) seconds\)")
_ANSWERS_S = 5.0
"""For a connection on this machine: a JVM that is there takes it at once, whatever it does."""
_TASK = re.compile(r"Task (\d+) in stage \S+ failed (\d+) times")


def explained(
    exc: Exception, expressions: str = "an expression of inputs, input.filter or input.sql"
) -> KvsparkError | None:
    """The error of ours that `exc` stands for, None if it stands for none.

    `expressions` are those that Spark computes for rows, in words.
    """
    text = str(exc)
    for name, message in reversed(_OURS.findall(text)):
        kind = getattr(errors, name, None)
        if isinstance(kind, type) and issubclass(kind, KvsparkError):
            return kind(message)
    if found := _FULL.search(text):
        return OutputError(
            f"{found.group().lower()} while the output was staged; nothing was published, make "
            "room where the output and spark.local.dir are, or choose other places"
        )
    if told := _unread(text):
        return told
    if found := _NO_VALUE.search(text) or _NO_VALUE_STATE.search(
        text
    ):  # the rest of Spark's message quotes the row
        return DataError(
            f"{expressions} has no value for a row ({found.group(1)}); nothing was published, "
            "write it with try_cast, try_divide or coalesce"
        )
    return _ended_early(exc, text)


def _ended_early(exc: Exception, text: str) -> KvsparkError | None:
    """Of a worker or a JVM that is gone; None if it is of none."""
    if found := _SILENT.search(text):
        return KvsparkError(
            f"a Python worker said nothing for {found.group(1)} s in every attempt{_task(text)}, and "
            "was ended; nothing was published, see what the model waits for, or raise "
            "spark.sql.execution.pyspark.udf.idleTimeoutSeconds"
        )
    if _DIED.search(text):
        return KvsparkError(
            f"a Python worker died in every attempt{_task(text)} (killed, out of memory, a fault in "
            "native code, or silent for longer than "
            "spark.sql.execution.pyspark.udf.idleTimeoutSeconds); nothing was published, its stack "
            "is in Spark's executor log"
        )
    if isinstance(exc, ConnectionError | EOFError | Py4JError) and _is_jvm_gone():
        return KvsparkError(
            "the JVM of Spark's driver ended (killed, or out of memory); nothing was published, look for its last words in "
            "the log above or the system's, raise spark.driver.memory if it had too little, and start again"
        )
    return None


def _unread(text: str) -> DataError | None:
    """Of a file that Spark could not read; None if it says nothing of one."""
    if _COLON in text:
        return DataError(
            f"{_file(text)} has a colon in its name, and Spark opens no such file; nothing was published, rename it"
        )
    if found := _CODEC.search(text):
        return DataError(
            f"{_file(text)} is compressed with {found.group(1).lower()}, for which this session has no codec; nothing was "
            "published, put its package into spark.conf (spark.jars.packages), or write the file with zstd"
        )
    if found := _ENCODING.search(text):
        return DataError(
            f"{_file(text)} is encoded as {found.group(1)}, which Spark's vectorized reader does not know; nothing was "
            "published, set spark.sql.parquet.enableVectorizedReader to false in spark.conf, or write the file without it"
        )
    if _UNREADABLE.search(text):
        return DataError(
            f"{_file(text)} cannot be read to its end (a damaged page, cut off, or it changed); nothing was published, "
            "write it again"
        )
    return None


def expressions_of(config: JobConfig) -> str:
    """Where `config` has Spark compute values of rows, in words."""
    parts = [part for each in config.inputs.values() for part in each.parts]
    is_asked = {
        "input.sql": config.input.sql is not None,
        "an expression of inputs": any(part.expr is not None for part in parts),
        "input.filter": config.input.filter is not None,
    }
    return " or ".join(name for name, is_there in is_asked.items() if is_there) or "an expression"


def _file(text: str) -> str:
    """Which file Spark read, if it says so."""
    if found := _READING.search(text):
        return unquote(re.sub("^file:(?://)?(?=/)", "", found.group(1)))
    found = _PARQUET.search(text)
    return found.group(1) if found else "an input file"


def _is_jvm_gone() -> bool:
    """True if nothing takes a connection where the JVM of this session does."""
    gateway = SparkContext._gateway  # noqa: SLF001 - in public, nobody says where it listens
    if gateway is None:
        return False
    at = gateway.gateway_parameters
    try:
        with socket.create_connection((at.address, at.port), timeout=_ANSWERS_S):
            return False
    except OSError:
        return True


def _task(text: str) -> str:
    """Which task it was, if Spark says so; a task's number is that of its partition."""
    found = _TASK.search(text)
    return f" ({found.group(2)}) of partition {found.group(1)}" if found else " of a task"
