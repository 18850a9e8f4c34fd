"""`conf/*.yaml` of a scoring job as one frozen value: what to read, compute, remember and write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, final

from pydantic import BeforeValidator, Field, field_validator, model_validator
from typing_extensions import Self

from kvspark.config.cache import CacheConfig, with_namespace
from kvspark.config.inputs import InputColumns
from kvspark.config.model import ModelConfig
from kvspark.config.placeholders import filled_in
from kvspark.config.plan import ROUNDING_CODECS, PlanConfig
from kvspark.config.section.base import Name, Section, Text, Texts, list_of_one
from kvspark.config.section.secret import holds_secret
from kvspark.config.table.input_table import InputConfig
from kvspark.config.table.storage import CATALOG, STORAGE, Storage, one_spelling
from kvspark.fingerprint import digest

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,127}")


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
    mode: Literal["replace", "append", "replace_partitions"] = Field(
        default="replace",
        description="`replace`: the run's rows are the whole output. `append`: they are added to it in one step; a run of "
        "the same `run.id` or date replaces what it added. `replace_partitions`: they are the whole of each partition of "
        "which the run has rows, and all others stay as they are. In a folder columns must be the same.",
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


@final
class RunConfig(Section):
    """The name of the job and of this run of it."""

    name: Name = Field(
        description="The job's name; it names the Spark application and the namespace."
    )
    id: Text | None = Field(
        default=None,
        description="The run's name: a run of the same id replaces the one before. Without it, it "
        "follows from `run.name`, `run.logical_date`, `output.path` and what is computed (`input`, `model`, `inputs`, "
        "`outputs`): nights without a date have one id.",
    )
    logical_date: Text | None = Field(
        default=None,
        description="The date that the run is for, as the scheduler says it: `{{ run.date }}`, `{{ run.date - 1d }}` in "
        "paths, partitions, filters and expressions; part of a derived id.",
    )
    require_cache: bool = Field(
        default=False,
        description="Fail (exit code 69) if the cache was not used, or not during the whole run.",
    )

    @field_validator("id")
    @classmethod
    def _id_fits_a_path(cls, run_id: str | None) -> str | None:
        if run_id is not None and not _RUN_ID.fullmatch(run_id):
            raise ValueError(
                "a run id names a folder: 1 to 128 letters, digits and . _ - = and a letter or "
                "digit first"
            )
        return run_id


def _spark_value(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, int | float) else value


@final
class SparkConfig(Section):
    """The Spark session."""

    master: Name | None = Field(
        default=None,
        description="`local[2]`, `yarn`, .... Without it, that of spark-submit, or every core of this "
        "machine.",
    )
    app_name: Name | None = Field(
        default=None, description="Spark's name of the application. Without it, `run.name`."
    )
    conf: dict[str, Annotated[str, BeforeValidator(_spark_value)]] = Field(
        default_factory=dict,
        description="More Spark settings, `spark.…: value`. Secrets are refused: Spark shows its "
        "settings in its user interface and event log.",
    )
    class_archive: bool = Field(
        default=True,
        description="Let the JVM of a local session map Spark's classes from an archive in the user's cache folder "
        "(`~/.cache/kvspark`, 170 MB), which the first one writes when it ends. Sessions start in two thirds of the "
        "time.",
    )

    @field_validator("conf")
    @classmethod
    def _conf_is_sparks_and_holds_no_secret(cls, conf: dict[str, str]) -> dict[str, str]:
        for key, value in conf.items():
            if not key.startswith("spark."):
                raise ValueError(f"{key} is not a Spark setting: those start with 'spark.'")
            if holds_secret(key, value):
                raise ValueError(
                    f"{key} looks like a secret, and Spark shows its settings in its user "
                    "interface and event log; give it by environment variable or file"
                )
        return conf


@final
class JobConfig(Section):
    """One scoring job."""

    run: RunConfig = Field(description="The name of the job and of this run of it.")
    input: InputConfig = Field(description="The table that is read.")
    model: ModelConfig = Field(description="The model that is applied.")
    inputs: dict[str, InputColumns] = Field(
        default_factory=dict,
        description="The column of each model input, or the columns that are joined to it: `{x: "
        "features, amounts: [amount, fee]}`. An input that is left out has the name of its "
        "column.",
    )
    outputs: dict[str, Name] | None = Field(
        default=None,
        description="The new column of each model output; other outputs are dropped. Without it, all "
        "outputs are kept under their own names.",
    )
    cache: CacheConfig | None = Field(
        default=None,
        description="The shared store. A bare URL is short for `{url: URL}`. Without it, nothing is "
        "cached.",
    )
    output: OutputConfig = Field(description="The table that is written.")
    plan: PlanConfig = Field(
        default_factory=PlanConfig,
        description="Which stages are remembered, and how much work is gathered.",
    )
    spark: SparkConfig = Field(default_factory=SparkConfig, description="The Spark session.")

    @model_validator(mode="before")
    @classmethod
    def _placeholders_have_values(cls, values: Any) -> Any:
        return filled_in(values) if isinstance(values, Mapping) else values

    @model_validator(mode="before")
    @classmethod
    def _cache_has_a_namespace(cls, values: Any) -> Any:
        if not isinstance(values, dict) or values.get("cache") is None:
            return values
        run = values.get("run")
        name = run.get("name") if isinstance(run, dict) else getattr(run, "name", None)
        return {**values, "cache": with_namespace(values["cache"], name)}

    @field_validator("outputs")
    @classmethod
    def _each_output_has_its_column(cls, outputs: dict[str, str] | None) -> dict[str, str] | None:
        columns = list((outputs or {}).values())
        twice = sorted({column for column in columns if columns.count(column) > 1})
        if twice:
            raise ValueError(f"two outputs have the same column {twice[0]}; give each its own")
        return outputs

    @model_validator(mode="after")
    def _what_was_added_is_added(self) -> Self:
        if self.input.changed_since is not None and self.output.mode != "append":
            raise ValueError(
                f"input.changed_since reads what was added, and output.mode: {self.output.mode} keeps nothing else; set append"
            )
        return self

    @model_validator(mode="after")
    def _output_is_not_the_input(self) -> Self:
        output = one_spelling(self.output.path)
        for path in self.input.paths:
            if output == one_spelling(path):
                raise ValueError(
                    "output.path is also in input.paths; a run would replace what it reads"
                )
            inner, outer = sorted((output, one_spelling(path)), key=len, reverse=True)
            # On a disk links say more than names, and the run looks there.
            if "://" in path and inner.startswith(f"{outer}/"):
                raise ValueError(
                    f"output.path {self.output.path} and {path} of input.paths lie in one another; name folders apart"
                )
        return self

    def run_id(self) -> str:
        """`run.id`, or an id that follows from the name, the logical date and what is computed.

        The same conf and date give the same id, so that a rerun replaces. How the result is reached (cache,
        plan, Spark settings) is not part of it.
        """
        if self.run.id is not None:
            return self.run.id
        # Without defaults: a key that a later release adds does not change the ids of this one's.
        computed = self.model_dump(
            mode="json",
            include={"input", "model", "inputs", "outputs"},
            exclude={"model": {"weights"}, "input": {"max_bad_rows", "max_bad_fraction"}},
            exclude_defaults=True,
        )
        # The empty list is in the ids of the releases before.
        fields: list[Any] = [self.run.name, self.run.logical_date, self.output.path, computed, []]
        lossy = {n: s.codec for n, s in self.plan.stages.items() if s.codec in ROUNDING_CODECS}
        fields += [lossy] if lossy else []
        parts = [self.run.name, self.run.logical_date, digest("kvspark run", fields).hex()[:12]]
        text = "-".join(re.sub(r"[^A-Za-z0-9._=-]+", "_", part) for part in parts if part)
        return text.lstrip("._=-")[-128:].lstrip("._=-")
