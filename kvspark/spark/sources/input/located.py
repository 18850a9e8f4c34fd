"""The file of each row, and its place there: two columns behind those of a table."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from kvspark.infer.rows.bad_rows import ERROR_COLUMN

METADATA = "_metadata"
LOCATOR = {"file": "file_path", "row": "row_index"}
"""What names a row, and what Spark calls it."""

# Under names of our own while the table is scored: it may have columns of the same names.
PLACES = tuple(f"_kvspark_{name}" for name in LOCATOR)

_HIDES = (METADATA, ERROR_COLUMN, *PLACES)


def located(df: DataFrame) -> DataFrame:
    """`df`, which reads files of Spark, with the file of each row and its place there behind its own columns."""
    named = zip(LOCATOR.values(), PLACES, strict=True)
    places = [F.col(f"{METADATA}.{field}").alias(name) for field, name in named]
    return df.select("*", *places)


def can_locate(df: DataFrame) -> bool:
    """True if no column of `df` has a name that is needed to find rows in files."""
    return not any(name.lower() in _HIDES for name in df.columns)
