"""Spark's Java classes as an archive that every JVM of a test run maps, instead of parsing its jars again.

    python -m tests.class_archive ARCHIVE    (what `java_options` runs where there is none yet)

An archive belongs to one Java and one pyspark; one that does not fit is ignored by the JVM, without a
word. Source: JEP 350, dynamic class-data sharing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

import pyspark

QUIET = "-Xlog:disable -Xlog:all=error:stderr"
"""An archive that does not fit is no matter for standard output, where programs write JSON."""


def java_options(options: str) -> str:
    """`options` and the archive's, for `SPARK_SUBMIT_OPTS`; `options` alone where no archive can be made."""
    archive = Path(sys.prefix) / f"spark-classes-{_build()}.jsa"
    if not archive.exists():
        _make(archive, options)
    return f"{options} -XX:SharedArchiveFile={archive} {QUIET}" if archive.exists() else options


def _build() -> str:
    """What tells this Java and this pyspark from others."""
    home = os.environ.get("JAVA_HOME")
    java = Path(home) / "bin" / "java" if home else Path(shutil.which("java") or "java")
    place = pyspark.__file__
    return sha256(f"{java.resolve()} {pyspark.__version__} {place}".encode()).hexdigest()[:16]


def _make(archive: Path, options: str) -> None:
    """Archives the classes that one small session loads; whoever comes second finds the first one's."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        part = Path(folder) / "part.jsa"
        made = f"{options} -XX:ArchiveClassesAtExit={part} {QUIET}"
        environment = {**os.environ, "SPARK_SUBMIT_OPTS": made, "PYSPARK_PYTHON": sys.executable}
        command = [sys.executable, "-m", "tests.class_archive", folder]
        root = Path(__file__).parents[1]
        done = subprocess.run(command, env=environment, cwd=root, capture_output=True, check=False)
        if done.returncode == 0 and part.exists():
            part.replace(archive)


def _session(folder: str) -> None:
    """Does once what jobs do: reads and writes Parquet, groups, and runs Python workers.

    Its JVM ends, and writes the archive, when this process has ended: it holds the pipes on which
    `_make` waits.
    """
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2,4]").config("spark.ui.enabled", "false")
    spark = builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
    spark.range(64).selectExpr("id", "cast(id as string) as text").write.parquet(f"{folder}/table")
    table = spark.read.parquet(f"{folder}/table")
    table.mapInArrow(lambda batches: batches, table.schema).groupBy("id").count().collect()
    spark.stop()


if __name__ == "__main__":
    _session(sys.argv[1])
