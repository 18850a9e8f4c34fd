"""The table that is written: `output` of a conf."""

from __future__ import annotations

from typing import Annotated, Literal, final

from pydantic import BeforeValidator, Field, model_validator
from typing_extensions import Self

from kvspark.config.section.base import Name, Section, Texts, list_of_one
from kvspark.config.table.storage import CATALOG, STORAGE, Storage


@final
class OutputConfig(Section):
    """The table that is written."""

    format: Literal["parquet", "delta", "iceberg"] = Field(
        default="parquet",
        description="`parquet`: a folder of files. `delta`: a table of Delta Lake, each run a commit of its log. `iceberg`: "
        "a table of Apache Iceberg, each run a snapshot.",
    )
    path: Name = Field(
        description="The folder that the run publishes: a path of a POSIX file system, or `s3://BUCKET/FOLDER`, `gs://…`, "
        "`abfss://…`, `hdfs://NAMESERVICE/FOLDER`; for `format: iceberg`, `iceberg:CATALOG/NAMESPACE.TABLE`. Object stores "
        "and HDFS are reached with the credentials of the environment, and written by the workers.",
    )
    catalog: dict[str, str] = Field(default_factory=dict, description=CATALOG)
    storage: Storage = Field(default_factory=dict, description=STORAGE)
    compression: Literal["zstd", "snappy", "gzip", "lz4", "uncompressed"] = Field(
        default="zstd", description="The Parquet compression."
    )
    partition_by: Annotated[Texts, BeforeValidator(list_of_one)] = Field(
        default=(),
        description="Columns whose values become folders (`dt=2026-01-01`), outermost first. Readers see null for an "
        "empty text there, as with every table of Spark.",
    )
    sort_by: Annotated[Texts, BeforeValidator(list_of_one)] = Field(
        default=(),
        description="Columns of the input by which the rows that a task writes are in order, ascending, nulls first: "
        "readers skip row groups by their bounds.",
    )
    mode: Literal["replace", "append", "replace_partitions", "merge"] = Field(
        default="replace",
        description="`replace`: the run's rows are the whole output. `append`: they are added to it in one step; a run of "
        "the same `run.id` or date replaces what it added. `replace_partitions`: they are the whole of each partition of "
        "which the run has rows, and all others stay as they are. With `format: parquet` columns must be the same. `merge`: "
        "they take the place of the rows with the same values of `merge_by`, of a table of Delta or Iceberg; all others stay.",
    )
    merge_by: Annotated[Texts, BeforeValidator(list_of_one)] = Field(
        default=(),
        description="With `mode: merge`, the columns of the input by whose values a row is known again: whole numbers, texts, "
        "dates or decimals. No two rows of a run have the same, and none is null.",
    )
    writer: Literal["spark", "arrow"] = Field(
        default="arrow",
        description="Who writes the Parquet files. `arrow`: each worker writes the rows that it scored, which saves "
        "their way back into Spark; a type that only Spark writes makes Spark write the run, and the log says so.",
    )
    file_mb: int = Field(
        default=512,
        ge=1,
        description="With `writer: arrow`, the size at which a task begins another file. Spark's writer makes one file "
        "of a task.",
    )
    group_rows: int = Field(
        default=1_000_000,
        ge=1,
        description="With `writer: arrow`, the most rows of a row group. One also ends at 64 MiB of rows; a worker "
        "holds three of them at most.",
    )
    keep: int = Field(
        default=1,
        ge=0,
        description="How many replaced outputs of this job can be restored (`kvspark rollback`). Each "
        "takes the disk of one output. Older ones are deleted once a new output is published.",
    )
    overwrite: bool = Field(
        default=False,
        description="Replace what no run of this job wrote; it is kept beside the output as "
        "`_replaced-NAME-TIME`. Otherwise such a run is refused (exit code 73).",
    )

    @model_validator(mode="after")
    def _path_is_of_the_format(self) -> Self:
        if (self.format == "iceberg") != self.path.startswith("iceberg:"):
            raise ValueError(
                f"output.format is {self.format} and output.path is {self.path}; an Iceberg table has format: iceberg and a path "
                "iceberg:CATALOG/NAMESPACE.TABLE, and nothing else has"
            )
        if self.catalog and self.format != "iceberg":
            raise ValueError(
                f"output.catalog is of an Iceberg table, and output.format is {self.format}"
            )
        return self

    @model_validator(mode="after")
    def _partitions_can_be_replaced(self) -> Self:
        if self.mode == "replace_partitions" and not self.partition_by:
            raise ValueError(
                "output.mode is replace_partitions, and output.partition_by names no column; name the columns of the folders"
            )
        return self

    @model_validator(mode="after")
    def _rows_can_be_merged(self) -> Self:
        if bool(self.merge_by) != (self.mode == "merge"):
            raise ValueError(
                f"output.mode is {self.mode} and output.merge_by names {', '.join(self.merge_by) or 'no column'}; set both, "
                "mode: merge and the columns by which rows are known again, or none of them"
            )
        if self.mode == "merge" and self.format == "parquet":
            raise ValueError(
                "output.mode is merge, and output.format is parquet, of which single rows are not replaced; set format: delta, or "
                "iceberg"
            )
        if len(set(self.merge_by)) < len(self.merge_by):
            raise ValueError("output.merge_by names a column twice; name it once")
        return self
