"""`conf/*.yaml` of a scoring job as one frozen value: what to read, compute, remember and write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, final

from pydantic import BeforeValidator, Field, field_validator, model_validator
from typing_extensions import Self

from kvspark.config.cache import CacheConfig, with_namespace
from kvspark.config.inputs import InputColumns
from kvspark.config.model import ModelConfig
from kvspark.config.placeholders import filled_in
from kvspark.config.plan import PlanConfig
from kvspark.config.section.base import Name, Section, Text
from kvspark.config.section.secret import holds_secret
from kvspark.config.table.input_table import InputConfig
from kvspark.config.table.output_table import OutputConfig
from kvspark.config.table.storage import one_spelling
from kvspark.fingerprint import digest

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,127}")


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
    def _what_has_changed_is_added_or_merged(self) -> Self:
        mode = self.output.mode
        if self.input.changed_since is not None and mode not in ("append", "merge"):
            raise ValueError(
                f"input.changed_since reads what is new, and output.mode: {mode} keeps nothing else; set append, or merge where rows "
                "change"
            )
        unnamed = [name for name in self.output.merge_by if name not in self.input.id]
        if self.input.on_bad_row == "quarantine" and unnamed:
            raise ValueError(
                f"input.on_bad_row is quarantine, and input.id does not name {unnamed[0]} of output.merge_by; name all of them, by "
                "which the old rows of bad ones are found"
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
        fields += [self.plan.rounding] if self.plan.rounding else []
        parts = [self.run.name, self.run.logical_date, digest("kvspark run", fields).hex()[:12]]
        text = "-".join(re.sub(r"[^A-Za-z0-9._=-]+", "_", part) for part in parts if part)
        return text.lstrip("._=-")[-128:].lstrip("._=-")
