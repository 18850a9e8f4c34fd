"""Text files of a POSIX file system, CSV or an object of JSON on each line, which Spark reads itself.

Spark makes nulls of what it cannot read in a line. So the columns and their types are given, never guessed, and all
lines are looked at before any is scored: one that is not a row of those columns fails the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import pyarrow as pa
from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, SchemaError, UsageError
from kvspark.spark.columns.analysis import analysis_text
from kvspark.spark.columns.column_map import quoted
from kvspark.spark.columns.missing_column import missing_column
from kvspark.spark.sources.by_spark.spark_files import folders_as_text, literal, of_partitions
from kvspark.spark.sources.input.found_input import FoundInput
from kvspark.spark.sources.input.located import METADATA
from kvspark.spark.tables.input_files import refuse_nulls
from kvspark.spark.tables.plain_files import PlainFiles
from kvspark.spark.tables.type_names import named_types
from kvspark.table.input.pinned_file import PinnedFile
from kvspark.table.input.text_ends import fault_of_text
from kvspark.wording import count_of

_MALFORMED = "_kvspark_malformed"
"""The column in which Spark puts the text of a line that it cannot read."""

_READING = {
    "csv": {
        "columnPruning": "false",
        "enforceSchema": "false",
        "escape": '"',
        "header": "true",
        "multiLine": "true",
        "unescapedQuoteHandling": "RAISE_ERROR",
    },
    "json": {},
}
"""A header must name the columns, and all of a line are read whenever one is: else a line with too few is not seen. Texts
in quotes are as in RFC 4180: with line ends, and a quote twice for one; Spark, by itself, takes such rows apart."""

_KNOWN = {
    "CSV header does not conform to the schema": (
        "the first line of a CSV file does not name the columns of input.columns, in their order; nothing was written, name "
        "them as the files do, or say input.options: {header: false} where they have no header"
    ),
    "Unescaped quote character": (
        "a CSV file has a quote inside of a text in quotes; nothing was written, write it twice, or say in input.options how "
        "it is escaped ({escape: \\})"
    ),
}
"""What Spark says without being asked for a column of bad lines; its own text quotes the line."""


@final
@dataclass(frozen=True, slots=True)
class _Looking:
    """What a worker does: it is given numbers of files, and looks at these."""

    files: Sequence[str]
    format: str
    options: Mapping[str, str]

    def run(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            files = [self.files[number] for number in batch.column(0).to_pylist()]
            faults = ((file, fault_of_text(file, self.format, self.options)) for file in files)
            bad = [{"file": file, "fault": fault} for file, fault in faults if fault]
            yield pa.RecordBatch.from_pylist(
                bad, pa.schema([("file", pa.string()), ("fault", pa.string())])
            )


@final
class LocalText(FoundInput):
    """The rows of `files`, as `config` describes them."""

    has_places = False

    def __init__(self, files: PlainFiles, config: InputConfig, columns: Sequence[str]) -> None:
        self._files = files
        self._config = config
        self._nulls: dict[str, int] | None = None
        self._rows: int | None = None
        _check_columns(files, config, columns)

    @property
    def schema(self) -> StructType:
        texts = dict.fromkeys(self._files.partition_columns, "string")
        kinds = named_types({**self._config.columns, **texts})
        return StructType([StructField(name, kind) for name, kind in kinds.items()])

    @property
    def pinned(self) -> Sequence[PinnedFile]:
        return [file.pinned for file in self._files.selected]

    @property
    def empty_files(self) -> int:
        return self._files.empty

    @property
    def rows(self) -> int | None:
        return self._rows

    def refuse_known_nulls(self, columns: Sequence[str]) -> bool:
        if self._nulls is None or self._rows is None:
            return False
        for name in columns:
            refuse_nulls(name, self._nulls.get(name, 0), self._rows, "the rows that are read")
        return all(name in self._nulls for name in columns)

    def read(self, spark: SparkSession) -> DataFrame:
        if self._rows is None:
            self._look_at_all_lines(spark)
        return self._loaded(spark, self._config.columns)

    def _look_at_all_lines(self, spark: SparkSession) -> None:
        """Counts rows, and nulls in each column, which no reader can do without reading all of each line.

        Raises:
            DataError: a line is no row of these columns.
            SchemaError: a header does not name them.
        """
        df = self._loaded(spark, {**self._config.columns, _MALFORMED: "string"})
        names = [name for name in df.columns if name != _MALFORMED]
        nulls = [F.count_if(F.col(quoted(name)).isNull()) for name in names]
        bad = F.count_if(F.col(_MALFORMED).isNotNull())
        row: Any = _scanned(df.agg(F.count(F.lit(1)), bad, *nulls)) or (0,) * (len(names) + 2)
        if row[1]:
            by_file = df.groupBy(F.col(f"{METADATA}.file_path")).agg(bad.alias("bad"), *nulls)
            first: Any = by_file.where("bad > 0").orderBy("file_path").first()
            raise DataError(
                f"{first['file_path'].removeprefix('file://')}: {count_of(first['bad'], 'line')} of it cannot be read as "
                f"input.columns ({count_of(row[1], 'line')} of {row[0]:,} in all); nothing was written, mend them, or see "
                "input.columns and input.options"
            )
        self._refuse_faults(spark)
        self._rows, self._nulls = row[0], dict(zip(names, row[2:], strict=True))

    def _refuse_faults(self, spark: SparkSession) -> None:
        """Of what Spark reads without a word, and wrongly."""
        files = self.files
        options = {name: str(value) for name, value in self._config.options.items()}
        looking = _Looking(files, self._config.format, options)
        tasks = max(1, min(len(files), 4 * spark.sparkContext.defaultParallelism))
        numbers = spark.range(0, len(files), 1, tasks)
        found = numbers.mapInArrow(looking.run, "file string, fault string")
        for file, fault in sorted(found.collect()):
            raise DataError(f"{file}: {fault}; nothing was written")

    def _loaded(self, spark: SparkSession, columns: Mapping[str, str]) -> DataFrame:
        config = self._config
        given = {name: str(value) for name, value in config.options.items()}
        own = {"mode": "PERMISSIVE", "columnNameOfCorruptRecord": _MALFORMED}
        schema = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns.items())
        with folders_as_text(spark):
            try:
                reader = spark.read.format(config.format).schema(schema)
                reader = reader.options(**{**_READING[config.format], **given, **own})
                df = reader.load([literal(root) for root in self._files.roots])
            except (AnalysisException, ParseException) as exc:
                said = analysis_text(exc, ()).rstrip(".")
                raise UsageError(
                    f"input.columns: {said}; nothing was written, name types of Spark SQL"
                ) from None
        if df.columns != [*columns, *self._files.partition_columns]:
            raise UsageError(
                "input.columns: a type is more than one type; nothing was written, write {name: type} for each column"
            )
        return of_partitions(df, config.partitions)


def _check_columns(files: PlainFiles, config: InputConfig, columns: Sequence[str]) -> None:
    folders = files.partition_columns
    for name in folders:
        if name.lower() in {column.lower() for column in config.columns}:
            raise UsageError(
                f"input.columns names {name!r}, which is the name of folders; nothing was written, leave it out: its "
                "value is that of the folder"
            )
    there = [*config.columns, *folders]
    for name in columns:
        if name not in there:
            raise SchemaError(f"input: {missing_column(name, there)}; nothing was written")


def _scanned(df: DataFrame) -> Any:
    try:
        return df.first()
    except Exception as exc:  # py4j's own or Spark's, with the reason in its text
        said = next((said for sign, said in _KNOWN.items() if sign in str(exc)), None)
        if said is None:
            raise
        raise SchemaError(f"input: {said}") from None
