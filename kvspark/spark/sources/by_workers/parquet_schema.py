"""The columns that Spark has of a Parquet file which it cannot open itself, from the footer alone.

Spark's own rules say it, and its settings. They run on the driver, where there are the settings; Spark's reader asks its
executors for footers, which may have no way to the file.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from kvspark.errors import SchemaError
from kvspark.table.input.pinned_file import PinnedFile

_MAGIC = b"PAR1"
_TAIL_BYTES = 8
"""The length of the footer, in 4 bytes, and the magic number.

Source: https://parquet.apache.org/docs/file-format/
"""


def parquet_schema(spark: SparkSession, file: PinnedFile) -> StructType:
    """The columns of `file` as `spark` would read them from a disk.

    Raises:
        SchemaError: it would not.
        OSError: the file cannot be read, or has changed.
    """
    with tempfile.TemporaryDirectory(prefix="kvspark-footer-") as folder:
        place = Path(folder, "footer.parquet")
        place.write_bytes(_MAGIC + _footer(file))
        try:
            text = _asked(spark, place)
        except PySparkException as exc:
            raise SchemaError(
                f"input file {file.name}: Spark cannot read its columns ({str(exc).splitlines()[0]}); nothing was "
                "written, write it without that column, or with another type"
            ) from None
    return StructType.fromJson(json.loads(text))


def _footer(file: PinnedFile) -> bytes:
    with file.open() as stream:
        size = stream.size()
        stream.seek(size - _TAIL_BYTES)
        length = int.from_bytes(stream.read(4), "little")
        stream.seek(size - _TAIL_BYTES - length)
        return bytes(stream.read(length + _TAIL_BYTES))


def _asked(spark: SparkSession, place: Path) -> str:
    """The schema in JSON."""
    jvm: Any = spark._jvm  # noqa: SLF001 - in public, only executors read footers
    parquet = jvm.org.apache.spark.sql.execution.datasources.parquet
    hadoop = spark._jsc.hadoopConfiguration()  # noqa: SLF001 - as above
    path = jvm.org.apache.hadoop.fs.Path(place.as_uri())
    file = jvm.org.apache.parquet.hadoop.util.HadoopInputFile.fromPath(path, hadoop)
    reader = jvm.org.apache.parquet.hadoop.ParquetFileReader.open(file)
    try:
        footer = jvm.org.apache.parquet.hadoop.Footer(path, reader.getFooter())
    finally:
        reader.close()
    settings = spark._jsparkSession.sessionState().conf()  # noqa: SLF001 - as above
    rules = parquet.ParquetToSparkSchemaConverter(settings)
    return str(parquet.ParquetFileFormat.readSchemaFromFooter(footer, rules).json())
