"""Time stamps of nanoseconds, as pandas writes them: Spark refuses a file that has one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import SparkSession

from kvspark.errors import SchemaError
from kvspark.spark.tables.footers import Footer

_AS_LONG = "spark.sql.legacy.parquet.nanosAsLong"


def asked_as_long(conf: Mapping[str, str]) -> bool | None:
    """True if the settings `conf` ask for numbers; None if they do not say."""
    return True if conf.get(_AS_LONG) == "true" else None


def refuse_nanoseconds(footers: Sequence[Footer], *, as_long: bool | None) -> None:
    """Does nothing if no file has a time stamp of nanoseconds, or the session reads them as numbers.

    `as_long` says whether it does; None: ask the session, where there is one.

    Raises:
        SchemaError: a file has one; names it, the column and what to do.
    """
    for footer in footers:
        for name, kind in footer.columns.items():
            if (
                "timeUnit=nanoseconds" in kind
                and "Timestamp" in kind
                and not _reads_them(as_long=as_long)
            ):
                raise SchemaError(
                    f"input file {footer.name}: column {name!r} is a time stamp of nanoseconds, which Spark does not "
                    f"read; nothing was written, write the file with coerce_timestamps='us', or read it as a number "
                    f"with spark.conf: {{{_AS_LONG}: true}}"
                )


def _reads_them(*, as_long: bool | None) -> bool:
    if as_long is not None:
        return as_long
    spark = SparkSession.getActiveSession()
    return spark is not None and spark.conf.get(_AS_LONG, "false") == "true"
