"""The rows of a query in Spark SQL."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import final
from urllib.parse import unquote

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, SchemaError, UsageError
from kvspark.spark.columns.analysis import analysis_text, shortened
from kvspark.spark.columns.expression import refuse_varying_query
from kvspark.spark.columns.missing_column import missing_column
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.tables.table_format import first_format
from kvspark.table.input.pinned_file import PinnedPath

_LOCAL = re.compile(r"file:(?://[^/]*)?(/.*)")


@final
class SqlQuery(FoundInput):
    """What the session of the run says to `config.sql`; the files of this machine that it reads are pinned."""

    has_places = False

    def __init__(self, config: InputConfig, columns: Sequence[str]) -> None:
        assert config.sql is not None
        self._text = config.sql
        self._columns = columns
        self._names: tuple[str, ...] = ()
        self._pinned: tuple[PinnedPath, ...] = ()

    @property
    def schema(self) -> StructType | None:
        return None

    @property
    def pinned(self) -> Sequence[PinnedPath]:
        return self._pinned

    @property
    def files(self) -> Sequence[str]:
        return self._names

    @property
    def digest(self) -> str | None:
        is_known = self._pinned and len(self._pinned) == len(self._names)
        return super().digest if is_known else None

    @property
    def rows(self) -> int | None:
        return None

    def refuse_known_nulls(self, columns: Sequence[str]) -> bool:
        del columns
        return False

    def read(self, spark: SparkSession) -> DataFrame:
        what = f"input.sql {shortened(self._text)!r}"
        try:
            # Inside of another query there is no command: nothing is dropped, made or changed.
            text = self._text.rstrip().rstrip(";")
            df = spark.sql(f"SELECT * FROM (\n{text}\n)")  # noqa: S608 - the conf's own query
            df.schema  # noqa: B018 - Spark Connect looks at it now
        except (AnalysisException, ParseException) as exc:
            raise UsageError(
                f"{what} is no query that Spark can answer: {analysis_text(exc, ())}; nothing was written"
            ) from None
        refuse_varying_query(df, self._text, what)
        twice = next((name for name in df.columns if df.columns.count(name) > 1), None)
        if twice is not None:
            raise SchemaError(
                f"{what} has column {twice!r} twice; nothing was written, give one of them another name with AS"
            )
        for name in self._columns:
            if name not in df.columns:
                raise SchemaError(
                    f"{what}: {missing_column(name, df.columns)}; nothing was written"
                )
        self._pin(df, what)
        return df

    def _pin(self, df: DataFrame, what: str) -> None:
        """Remembers the files that the query reads, as they are now."""
        self._names = tuple(sorted(map(_plain, df.inputFiles())))
        local = [name for name in self._names if name.startswith("/")]
        other = first_format({Path(path).parent: None for path in local})
        if other is not None and not _knows(df.sparkSession, other.reader):
            raise DataError(
                f"{what} reads files of {other} at {other.root}, and this session knows no such tables: deleted rows would "
                "come back; nothing was written, name its packages and extensions in spark.conf"
            )
        self._pinned = tuple(PinnedPath.at(Path(path)) for path in local)


def _plain(url: str) -> str:
    found = _LOCAL.fullmatch(url)
    return url if found is None else unquote(found[1])


def _knows(spark: SparkSession, format_: str) -> bool:
    """True if a setting of the session names the tables of `format_`."""
    names = ("spark.sql.extensions", "spark.sql.catalog.spark_catalog")
    return any(format_ in (spark.conf.get(name, "") or "").lower() for name in names)
