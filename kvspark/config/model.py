"""The model of a scoring job: which it is, how it gets to the workers, and in which shapes it computes."""

from __future__ import annotations

from typing import Literal, final

from pydantic import Field

from kvspark.config.section.base import Name, Section
from kvspark.spec import MicroBatch


@final
class MicroBatchConfig(Section):
    """The shapes in which the model is called; part of every fingerprint."""

    rows: int = Field(
        default=MicroBatch().rows,
        gt=0,
        description="Rows of one call of the model: 1, or a multiple of 32.",
    )
    tokens: int = Field(
        default=MicroBatch().tokens,
        gt=0,
        description="The most padded tokens of one call, where rows have lengths; above it, one row a call.",
    )

    def value(self) -> MicroBatch:
        """The micro-batch that the model is called with."""
        return MicroBatch(rows=self.rows, tokens=self.tokens)


Way = Literal["broadcast", "artifact", "path", "redis"]
"""How a model gets to the workers; kvspark.spark.weights.transport says what each one is."""


@final
class ModelConfig(Section):
    """The model that is applied."""

    path: Name = Field(
        description="A bundle's folder (`Model.save`), a folder of transformers or sentence-transformers, a "
        "`.onnx` or `.keras` file, or a registry's `models:/NAME/VERSION`, `models:/NAME@ALIAS`, `runs:/ID/PATH`."
    )
    max_length: int | None = Field(
        default=None,
        gt=0,
        description="Tokens of a row that are read; the rest is cut off. Without it, the model's own "
        "limit.",
    )
    long_texts: Literal["cut", "bad"] | None = Field(
        default=None,
        description="What becomes of a longer text of a pretrained folder: it is cut, or it is a bad row "
        "(`input.on_bad_row`). Without it, the text is cut.",
    )
    prompt: str | None = Field(
        default=None,
        description="The text put in front of each text of a sentence-transformers folder, as "
        '`encode(prompt=...)` does; `""` for nothing. Without it, the folder\'s own default.',
    )
    prompt_name: str | None = Field(
        default=None,
        description="The same by its name in the folder, as `encode(prompt_name=...)` does: `query`, `document`, ....",
    )
    truncate_dim: int | None = Field(
        default=None,
        gt=0,
        description="How many of the first numbers of an embedding are kept. Without it, as the folder "
        "says.",
    )
    micro_batch: MicroBatchConfig | None = Field(
        default=None,
        description="The shapes in which all stages of the model are called. Without it, those of the bundle: "
        "each stage has the rows that its work asks for.",
    )
    weights: Way = Field(
        default="broadcast",
        description="How it gets to the workers: `broadcast` (an artifact where Spark encrypts its files), `artifact` (files of the Spark session), `path` (they "
        "open `model.path`, which every machine has) or `redis` (the cache's store, by content: a "
        "new version sends only the tensors that changed, a worker gets only the stages that it runs).",
    )
    device: Literal["cpu", "cuda"] | None = Field(
        default=None,
        description="Where torch computes. Without it, on a GPU (`cuda`) where Spark gives one to each "
        "task, else on the CPU.",
    )
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None,
        description="The dtype in which a pretrained model computes. Another dtype gives other results "
        "and other entries. Without it, the folder's own.",
    )
