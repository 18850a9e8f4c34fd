"""What of a model is remembered, and how much work is gathered before it is called."""

from __future__ import annotations

from typing import Any, Literal, final

from pydantic import Field, field_validator

from kvspark.config.section.base import Name, Section, Texts
from kvspark.config.section.removed import removed_codec

ROUNDING_CODECS = frozenset({"bf16", "fp16", "int8"})
"""Codecs of a stage that change results."""


@final
class StageConfig(Section):
    """What is remembered of one stage."""

    cached: bool = Field(
        description="Look this stage up in the store, and insert what is computed."
    )
    codec: Name = Field(
        default="raw",
        description="How its entries are written: `raw`, `zstd`, `lz4`, `snappy`, `zlib`, "
        "or rounded to fewer bits: `bf16`, `fp16`, `int8`. Rounding changes results, the same way for rows that are "
        "computed and found; a preflight refuses it where a prediction changes.",
    )
    share: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="The share of distinct rows that are cached, the same ones every night. Without it, "
        "what fits into `cache.budget_bytes`.",
    )

    @field_validator("codec")
    @classmethod
    def _codec_that_is_left(cls, codec: str) -> str:
        gone = removed_codec(codec)
        if gone is not None:
            raise ValueError(gone)
        return codec


@final
class ExpectConfig(Section):
    """What the next runs will be like, where the history of the output does not say it yet."""

    again: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="The share of rows that the next run asks for again. It counts as one run beside the hit "
        "rates of the last seven.",
    )
    retrained: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="The chance that the last stage is trained anew before the next run. It counts as one run of "
        "the history.",
    )
    runs: int = Field(default=1, ge=0, description="How many next runs count.")


@final
class PlanConfig(Section):
    """Which stages are remembered, and how much work is gathered before the model is called."""

    mode: Literal["off", "rule", "measured"] = Field(
        default="measured",
        description="Who decides for stages that are not named in `plan.stages`: what was measured before the run "
        "(`kvspark plan` shows it), the rule there, or nobody: `off` caches none. `kvspark.score`, `udf` and Spark "
        "Connect go by rule: give them a `Plan`, of `kvspark.measured_plan` or of the stages that `kvspark plan` shows.",
    )
    expect: ExpectConfig = Field(
        default_factory=ExpectConfig, description="What the next runs will be like."
    )
    stages: dict[str, StageConfig] = Field(
        default_factory=dict,
        description="What the cache does for each stage, by name. A stage that is not named is cached if that "
        "pays (`plan.mode`). By rule it is cached if it is the last one, or if its results have one size. A stage "
        "that only joins cached towers, at less than the cost of a look-up, is not cached.",
    )
    max_pending_rows: int = Field(
        default=4096, gt=0, description="How many rows may wait for full micro-batches."
    )
    max_held_bytes: int = Field(
        default=128 * 1024 * 1024, gt=0, description="How many bytes the waiting rows may take."
    )
    distinct_first: Texts = Field(
        default=(),
        description="Stages that are computed for the distinct values of their inputs before rows are "
        "scored, so that no two workers compute the same value. For expensive towers.",
    )
    watch: bool = Field(
        default=True,
        description="Leave the store alone at a stage where look-ups and inserts have cost half a second more than "
        "they saved, or take longer than computing, and try again now and then. Each worker decides by what "
        "it measures.",
    )
    short_calls: bool | None = Field(
        default=None,
        description="Compute the last rows of a group in a call of fewer rows than the micro-batch, at shapes where a "
        "trial on this machine's arithmetic, operator by operator, has found the same bits. Without a value: where "
        "there is a cache, which remembers what was tried.",
    )
    lossy_tolerance: float = Field(
        default=0.02,
        ge=0,
        description="How much a rounding codec may change an output in the preflight, as a part of the "
        "output's largest number.",
    )
    memo_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=0,
        description="Bytes of each worker for the latest results of towers: stages that some inputs of "
        "the model do not reach.",
    )

    @field_validator("mode", mode="before")
    @classmethod
    def _off_is_no_boolean(cls, mode: Any) -> Any:
        # YAML reads a bare off as false.
        return "off" if mode is False else mode

    @property
    def rounding(self) -> dict[str, str]:
        """The codec of each stage whose results are rounded, by the stage's name."""
        return {n: s.codec for n, s in self.stages.items() if s.codec in ROUNDING_CODECS}
