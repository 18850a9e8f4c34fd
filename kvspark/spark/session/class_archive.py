"""Spark's Java classes as an archive, which the JVM maps instead of parsing them out of its jars at each start.

    <folder>/spark-classes-<build>.jsa            what every JVM of this Java and this pyspark maps
    <folder>/spark-classes-<build>-<token>.part   what one JVM writes when it ends

The folder is `$XDG_CACHE_HOME/kvspark`, by default `~/.cache/kvspark`. The first session has its JVM write the
archive when it ends; the next one gives it its name. A JVM writes the head of the file last, so one that was
killed leaves a file without a head, which is removed. An archive that does not fit is ignored by the JVM.
Source: JEP 350, dynamic class-data sharing.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path

import pyspark

log = logging.getLogger(__name__)

# The JVM would tell standard output, where programs write JSON, that an archive does not fit.
_QUIET = "-XX:+IgnoreUnrecognizedVMOptions -Xlog:disable -Xlog:all=error:stderr"
_HEAD = (0xF00BABA8).to_bytes(4, "little")
"""Of a dynamic archive (`CDS_DYNAMIC_ARCHIVE_MAGIC` of OpenJDK's `cds.h`)."""
_HOUR_S = 3_600.0
"""A part without a head that is older was left by a JVM that was killed."""


def archive_options(folder: Path | None = None) -> str:
    """Options for a JVM that maps the archive, or writes it when it ends; nothing where that is not to be.

    `folder` is where archives are, by default the user's. Nothing is raised: a job starts without one as well.
    """
    if "SharedArchiveFile" in os.environ.get("SPARK_SUBMIT_OPTS", ""):
        return ""  # somebody has chosen
    try:
        folder = folder or _folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        # A JVM runs what it maps; and Spark takes a blank for the end of an option.
        if found.st_uid != os.getuid() or found.st_mode & 0o022 or " " in str(folder):
            return ""
        return _options(folder / f"spark-classes-{_build()}.jsa")
    except (OSError, RuntimeError) as error:  # no home, no room, not ours
        log.debug("no archive of Spark's classes: %s", error)
        return ""


def _options(archive: Path) -> str:
    for part in archive.parent.glob(f"{archive.stem}-*.part"):
        if _is_whole(part):
            part.replace(archive)
            log.info("sessions start faster from now on: Spark's classes are in %s", archive)
        elif datetime.now(timezone.utc).timestamp() - part.stat().st_mtime > _HOUR_S:
            part.unlink()
    if _is_whole(archive):
        return f"-XX:SharedArchiveFile={archive} {_QUIET}"
    part = archive.parent / f"{archive.stem}-{secrets.token_hex(4)}.part"
    return f"-XX:ArchiveClassesAtExit={part} {_QUIET}"


def _is_whole(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_HEAD)) == _HEAD
    except FileNotFoundError:
        return False


def _folder() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "kvspark"


def _build() -> str:
    """What tells this Java and this pyspark from others."""
    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin/java") if home else Path(shutil.which("java") or "java")
    release = java.resolve().parents[1] / "release"
    said = release.read_bytes() if release.exists() else str(java.resolve()).encode()
    told = [said, pyspark.__version__.encode(), str(Path(pyspark.__file__).resolve()).encode()]
    return sha256(b"\0".join(told)).hexdigest()[:16]
