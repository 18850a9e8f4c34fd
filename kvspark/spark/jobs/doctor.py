"""The `doctor` command: what is looked at on this machine, and what is told of the store.

It looks from where it runs, which is the driver's machine: executors need the same Python, the same
files and the same way to the store.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from kvspark.cache.cache import Cache
from kvspark.cache.doctor.access import Visitor
from kvspark.cache.doctor.finding import Finding, size_text
from kvspark.cache.doctor.store import ANSWERS, Need, store_findings
from kvspark.cache.seal.keyring import KeyRing
from kvspark.cache.stage.admission import ENVELOPE_BYTES, entry_memory_bytes
from kvspark.config.cache import CacheConfig
from kvspark.config.job import JobConfig
from kvspark.errors import BundleError, KvsparkError, SecretError
from kvspark.spark.runs.run_report import FILE_NAME, REPORT_FOLDER
from kvspark.spark.tables.paths import local_path
from kvspark.spark.weights.host_files import HostFiles
from kvspark.store.opening.url import cold_folder
from kvspark.wording import count_of

JAVA = 17
PYSPARK = (4, 0)
LOW_BYTES = 2 << 30
"""What the weights of one model may take on a host's disk."""


def examine(config: JobConfig, visitor: Visitor | None = None) -> Iterator[Finding]:
    """What is right and wrong with the machine, the secrets and the store of `config`; changes nothing.

    Raises:
        UsageError: the conf names a store that cannot be opened.
    """
    yield _pyspark()
    yield _java(config.spark.master)
    yield _host_files()
    if config.cache is None:
        yield Finding("warn", "cache", "none in the conf", "a store", "name one in cache.url")
        return
    yield from _secrets(config.cache)
    if config.cache.cold is not None:
        yield _cold(config.cache.cold)
    is_reached = False
    for finding in store_findings(config.cache, visitor, _need(config)):
        is_reached |= finding.got.startswith(ANSWERS)
        yield finding
    if is_reached:
        yield from _namespace(config.cache)


def _pyspark() -> Finding:
    python = f"Python {sys.version.partition(' ')[0]}"
    try:
        text = version("pyspark")
    except PackageNotFoundError:
        return Finding("bad", "pyspark", "not installed", "4.x", "pip install 'kvspark[local]'")
    numbers = tuple(int(each) for each in text.split(".")[:2] if each.isdecimal())
    if numbers < PYSPARK or numbers >= (5,):
        return Finding("bad", "pyspark", text, "4.x", "pip install 'kvspark[local]'")
    return Finding("ok", "pyspark", f"{text} on {python}")


def _java(master: str | None) -> Finding:
    if master is not None and master.startswith("sc://"):
        return Finding("ok", "Java", "not needed here: Spark Connect")
    home = os.environ.get("JAVA_HOME")
    program = str(Path(home, "bin/java")) if home else shutil.which("java")
    text = "" if program is None else _printed(program, "-version")
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    expected = f"{JAVA} or later"
    if found is None:
        advice = f"install it (openjdk-{JAVA}-jre-headless), or set JAVA_HOME"
        return Finding("bad", "Java", "none that runs", expected, advice)
    if int(found[1]) < JAVA:
        return Finding("bad", "Java", found[1], expected, "set JAVA_HOME to a later one")
    return Finding("ok", "Java", found[1])


def _printed(program: str, argument: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - the Java that Spark would start.
            [program, argument], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stderr + done.stdout


def _host_files() -> Finding:
    what = "host files"
    try:
        root = HostFiles().root
    except BundleError as exc:
        return Finding("bad", what, str(exc))
    free = shutil.disk_usage(root).free
    got = f"{root} with {size_text(free)} free"
    if free < LOW_BYTES:
        advice = "point TMPDIR to a larger disk: workers keep copies of their own where none fits"
        return Finding("warn", what, got, f"{size_text(LOW_BYTES)} for weights", advice)
    return Finding("ok", what, got)


def _secrets(config: CacheConfig) -> Iterator[Finding]:
    if config.is_sealed:
        yield _key_ring(config)
    elif config.url.startswith(("embedded:", "memory:")):
        yield Finding("ok", "sealing", "off, in a store of this machine alone")
    else:
        yield Finding(
            "bad",
            "sealing",
            "off: who reads the store reads rows",
            "on",
            "leave cache.sealed out, run kvspark keygen FILE and set cache.sealing.key_file",
        )
    for name, read in (("password", config.password), ("namespace secret", config.secret)):
        yield from _readable(name, read)


def _key_ring(config: CacheConfig) -> Finding:
    if not config.sealing.is_named:
        return Finding(
            "bad",
            "sealing",
            "on, and no keys are named",
            "a key file",
            "run kvspark keygen FILE and set cache.sealing.key_file on driver and executors",
        )
    try:
        keys = KeyRing(config.sealing).keys()
    except SecretError as exc:
        return Finding("bad", "sealing", str(exc))
    got = f"on, key {keys.primary} seals, {len(keys.masters)} open"
    path = config.sealing.key_file
    if path is not None and Path(path).stat().st_mode & 0o077:
        return Finding(
            "warn",
            "sealing",
            f"{got}; others than its owner may read {path}",
            "mode 600",
            f"run chmod 600 {path}",
        )
    return Finding("ok", "sealing", got)


def _readable(name: str, read: Callable[[], bytes | None]) -> Iterator[Finding]:
    try:
        if read() is not None:
            yield Finding("ok", name, "can be read")
    except SecretError as exc:
        # A store that cannot be opened without its password says so itself.
        if name != "password":
            yield Finding("bad", name, str(exc))


def _cold(url: str) -> Finding:
    what = f"cold tier {url}"
    try:
        folder = cold_folder(url)
        folder.try_writing()
        count = len(folder.names())
    except (OSError, KvsparkError) as exc:
        said = str(exc) if isinstance(exc, KvsparkError) else type(exc).__name__
        return Finding(
            "bad", what, f"takes no file: {said}", "a folder to write to", "check its permissions"
        )
    if count > MANY_SEGMENTS:
        advice = f"run kvspark compact {url} each night"
        return Finding("warn", what, count_of(count, "segment"), f"at most {MANY_SEGMENTS}", advice)
    return Finding("ok", what, f"can be written, {count_of(count, 'segment')}")


MANY_SEGMENTS = 500
"""Each is opened by each worker that reads the tier."""


def _namespace(config: CacheConfig) -> Iterator[Finding]:
    """What runs have written, by stage."""
    what = f"namespace {config.namespace}"
    try:
        with closing(Cache.from_config(config)) as cache:
            stocks = cache.registry().stocks()
    except SecretError:
        return  # It was told where the secret is looked at.
    if stocks is None:
        yield Finding("unseen", what, "the store does not say what runs have written")
        return
    if not stocks:
        yield Finding("ok", what, "no run has written anything")
    for stock in sorted(stocks.values(), key=lambda each: each.name):
        day = datetime.fromtimestamp(stock.last_used_s, timezone.utc).date()
        got = f"about {count_of(stock.entries, 'entry')}, {size_text(stock.size_bytes)}, last used {day}"
        yield Finding("ok", f"{what} stage {stock.name}", got)


def _need(config: JobConfig) -> Need | None:
    """What one night takes: of the budget, else the last run's entries."""
    assert config.cache is not None
    if config.cache.budget_bytes is not None:
        return Need(config.cache.budget_bytes, "cache.budget_bytes")
    try:
        path = local_path(config.output.path, what="output.path") / REPORT_FOLDER / FILE_NAME
        stages = json.loads(path.read_text(encoding="utf-8"))["stages"].values()
        size_bytes = sum(map(_stage_bytes, stages))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, KvsparkError):
        return None
    if not size_bytes:
        return None
    return Need(size_bytes, "the rows of the last run")


def _stage_bytes(stage: dict[str, int]) -> int:
    """Memory of the entries that a run has asked for at one stage."""
    moved, entries = stage["bytes_read"] + stage["bytes_written"], stage["hits"] + stage["computed"]
    if not stage["lookups"] or not moved:
        return 0
    return stage["lookups"] * entry_memory_bytes(max(0, moved // entries - ENVELOPE_BYTES))
