"""The table that is read: `input` of a conf."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Annotated, Literal, final

from pydantic import BeforeValidator, Field, field_validator, model_validator
from typing_extensions import Self

from kvspark.config.section.base import Name, Section, Text, Texts, list_of_one
from kvspark.config.sql.varying import varies, varying
from kvspark.config.table.file_formats import Format, refuse_text, refuse_what_does_not_fit
from kvspark.config.table.storage import CATALOG, STORAGE, Storage


def moment(text: str) -> datetime:
    """The time that `text` says in ISO 8601; UTC where it says no zone.

    Raises:
        ValueError: it says none.
    """
    try:
        # Python 3.10 knows no Z.
        found = datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    except ValueError:
        raise ValueError(f"{text!r} is no time; write it as 2026-01-31T06:00:00") from None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


_TABLES = ("delta", "iceberg")
_REMOTE = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://")


def _null_as_text(value: object) -> object:
    # `on_bad_row: null` is YAML for nothing at all.
    return "null" if value is None else value


@final
class InputConfig(Section):
    """The table that is read."""

    paths: Texts = Field(
        default=(),
        description="Files or folders: paths of a POSIX file system, or, of Parquet, `s3://BUCKET/FOLDER`, "
        "`gs://…`, `abfss://…`, `hdfs://…`, which the workers read. For `format: iceberg`, `iceberg:CATALOG/NAMESPACE.TABLE`.",
    )
    format: Format = Field(
        default="parquet",
        description="Of the files; `json` has an object on each line. `delta` is a table of Delta Lake, one version of which "
        "is read by the workers, and `iceberg` one of Apache Iceberg, as of one snapshot.",
    )
    columns: dict[str, Name] = Field(
        default_factory=dict,
        description="All columns of a text file (`csv`, `json`) with their types in Spark SQL, in their order: "
        "`{id: bigint, text: string}`. A line that does not fit them fails the run.",
    )
    options: dict[str, bool | int | Text] = Field(
        default_factory=dict,
        description="How a text file is written, in the words of Spark's reader: `{sep: ;, nullValue: NA}`. A CSV file has a "
        "header, which must be `columns`, unless it says `header: false`; texts in quotes may have line ends "
        "(`multiLine: false` reads a large file in parts, and such texts wrongly), and a quote is written twice "
        "(`escape: \\` for Spark's own files). What is empty is null.",
    )
    sql: Name | None = Field(
        default=None,
        description="A query in Spark SQL instead of files. It must give the same rows whenever it is asked; the files of "
        "its tables are pinned.",
    )
    storage: Storage = Field(default_factory=dict, description=STORAGE)
    version: int | None = Field(
        default=None,
        ge=0,
        description="Of a Delta table. Without it, the newest when the run begins.",
    )
    timestamp: Text | None = Field(
        default=None,
        description="Read a Delta table as it was then: `2026-01-31`, `2026-01-31T06:00:00+01:00`; UTC where no zone is "
        "named.",
    )
    snapshot: int | None = Field(
        default=None, description="Of an Iceberg table. Without it, the newest when the run begins."
    )
    branch: Name | None = Field(
        default=None,
        description="Of an Iceberg table: the branch or tag whose newest snapshot is read. Without it, `main`.",
    )
    catalog: dict[str, str] = Field(default_factory=dict, description=CATALOG)
    changed_since: Literal["last_run"] | None = Field(
        default=None,
        description="`last_run`: read only the rows that are new in a Delta or Iceberg table since the run that published the "
        "output; the first run reads all. With `output.mode: append` these are added rows, and changed or removed ones fail the "
        "run; with `merge` changed ones are read as well, and removed ones go from the output.",
    )
    filter: Name | None = Field(
        default=None,
        description="Rows to score, as a Spark SQL condition. Without it, all rows. It must say the same of the same row "
        "whenever it is asked: `rand()`, `current_date` and the like are refused; a date is `{{ run.date }}`.",
    )
    partitions: dict[str, Text | None] = Field(
        default_factory=dict,
        description="Read only these partitions, by column: `{dt: 2026-01-01}`. `{dt: null}` is the "
        "partition of nulls, `__HIVE_DEFAULT_PARTITION__`. Write values as they are, not as "
        "in the folder's name (`a/b`, not `a%2Fb`).",
    )
    strict_files: bool = Field(
        default=False, description="Fail on a file of zero bytes. Otherwise the run warns."
    )
    merge_schema: bool = Field(
        default=False,
        description="Read the union of the columns of all files: null where a file has no such column, "
        "and the wider of two types (`int` and `bigint`). Otherwise files that do not agree "
        "are an error.",
    )
    fail_on_empty: bool = Field(
        default=False,
        description="Fail if no row is left to score. Otherwise an empty table is published.",
    )
    id: Annotated[Texts, BeforeValidator(list_of_one)] = Field(
        default=(),
        description="The columns that identify a row in the quarantine table. Without them, its file and "
        "its place in that file.",
    )
    on_bad_row: Annotated[
        Literal["error", "null", "quarantine"], BeforeValidator(_null_as_text)
    ] = Field(
        default="error",
        description="What becomes of a row that cannot be scored: it fails the run (`error`), its "
        "outputs are null (`null`), or it is left out and recorded in `_kvspark/quarantine` "
        "inside the output (`quarantine`).",
    )
    max_bad_rows: int | None = Field(
        default=None,
        ge=0,
        description="Fail (exit code 65) and publish nothing if more rows are bad. Without it, any "
        "number may be bad.",
    )
    max_bad_fraction: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="The same, as a fraction of the rows that are read.",
    )

    @property
    def named(self) -> tuple[str, ...]:
        """What it calls its rows: paths, or a query."""
        return self.paths if self.sql is None else (self.sql,)

    @field_validator("filter")
    @classmethod
    def _the_filter_keeps_the_same_rows(cls, text: str | None) -> str | None:
        found = None if text is None else varying(text, is_filter=True)
        if found is not None:
            raise ValueError(f"it {varies(*found, is_filter=True)}")
        return text

    @model_validator(mode="after")
    def _what_is_said_goes_together(self) -> Self:
        # A conf that is written out says what it leaves as it is.
        said = self.model_dump(exclude_defaults=True)
        refuse_what_does_not_fit(self.format, said, is_sql=self.sql is not None)
        refuse_text(self.format, self.columns, self.options)
        if not self.paths and self.sql is None:
            raise ValueError("name the files in input.paths, or a query in input.sql")
        return self

    @model_validator(mode="after")
    def _it_is_one_table(self) -> Self:
        if self.format in _TABLES and len(self.paths) != 1:
            raise ValueError(f"input.paths names {len(self.paths)} tables; name one")
        for path in self.paths:
            if (self.format == "iceberg") != path.startswith("iceberg:"):
                raise ValueError(
                    f"input.format is {self.format} and input.paths names {path}; an Iceberg table has format: iceberg and a path "
                    "iceberg:CATALOG/NAMESPACE.TABLE, and nothing else has"
                )
        if self.version is not None and self.timestamp is not None:
            raise ValueError("input.version and input.timestamp name two versions; name one")
        if self.snapshot is not None and self.branch is not None:
            raise ValueError("input.snapshot and input.branch name two snapshots; name one")
        for name in ("version", "timestamp", "snapshot"):
            if self.changed_since is not None and getattr(self, name) is not None:
                raise ValueError(
                    f"input.changed_since reads up to the newest version, and input.{name} names another; leave one of them out"
                )
        return self

    @model_validator(mode="after")
    def _paths_are_of_one_kind(self) -> Self:
        remote = [path for path in self.paths if _REMOTE.match(path)]
        if remote and len(remote) < len(self.paths):
            raise ValueError(
                f"input.paths names {remote[0]} and a path of this machine; name paths of one kind, or run a job for each"
            )
        by_workers = remote or self.format in _TABLES
        if by_workers and self.filter is not None and "input_file_name" in self.filter.lower():
            raise ValueError(
                "input.filter asks for input_file_name(), which is empty where the workers read the files; choose files with "
                "input.partitions, or name them in input.paths"
            )
        if self.storage and not remote and self.format != "iceberg":
            raise ValueError("input.storage is of an object store, and input.paths names none")
        return self

    @field_validator("timestamp")
    @classmethod
    def _it_is_a_time(cls, text: str | None) -> str | None:
        if text is not None:
            moment(text)
        return text

    @model_validator(mode="after")
    def _a_limit_has_something_to_limit(self) -> Self:
        limits = (self.max_bad_rows, self.max_bad_fraction)
        if self.on_bad_row == "error" and limits != (None, None):
            raise ValueError(
                "max_bad_rows and max_bad_fraction need on_bad_row: null or quarantine; by default the "
                "first bad row fails the run"
            )
        return self
