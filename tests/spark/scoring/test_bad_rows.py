"""`score` and bad rows: an error, nulls, or nulls and a column that says why."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import soundfile
import torch
from PIL import Image
from pyspark.errors import PythonException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

import kvspark
from kvspark.errors import BadRowsError, UsageError
from kvspark.infer.model import Model
from kvspark.infer.rows.bad_rows import BadRow
from kvspark.model.features.audio import AudioFeatures
from kvspark.model.features.image import ImageFeatures
from kvspark.spark.runs.tally import Tally
from kvspark.spark.scoring.bad_rows import NullOutputs, Scored
from tests.small_models import seeded
from tests.spark.conftest import features

pytestmark = pytest.mark.spark

ROWS = 200
ERROR = "_kvspark_error"


class Mean(torch.nn.Module):
    """Two numbers of a picture, or of a sound."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = torch.nn.Linear(width, 2)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return self.head(given.flatten(2).mean(2) if given.dim() > 2 else given)


@pytest.fixture(scope="module")
def looker() -> Model:
    image = ImageFeatures(size=8, mean=(0.5,) * 3, std=(0.5,) * 3, output="given")
    return Model.from_torch(seeded(Mean(3)), features=image, cuts=None)


@pytest.fixture(scope="module")
def listener() -> Model:
    sound = AudioFeatures(rate=8_000, samples=64, output="given")
    return Model.from_torch(seeded(Mean(64)), features=sound, cuts=None)


@pytest.fixture(scope="module")
def lookup() -> Model:
    """Ids of 50; another one makes torch raise."""
    module = torch.nn.Sequential(torch.nn.Embedding(50, 4), torch.nn.Linear(4, 2))
    return Model.from_torch(
        seeded(module), {"input": torch.zeros(3, dtype=torch.int64)}, cuts=["0"], name="lookup"
    )


def picture(seed: int) -> bytes:
    into = BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(noise).save(into, "PNG")
    return into.getvalue()


def sound(seed: int, kind: str) -> bytes:
    into = BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, 800)
    soundfile.write(into, noise, 8_000, format=kind)
    return into.getvalue()


def damaged(content: bytes) -> bytes:
    """The same bytes with a part of them torn out and another one overwritten."""
    half = len(content) // 2
    return content[: half // 2] + bytes(16) + content[half:-9]


def check(df: DataFrame, model: Model, bad: dict[int, str], **names: Any) -> None:
    """`df` scored both ways: the good rows are those of a table without the bad ones."""
    of_good = kvspark.score(df.where(~F.col("id").isin(list(bad))), model, **names)
    with_nulls = kvspark.score(df, model, on_bad_row="null", **names)
    with_reasons = kvspark.score(df, model, on_bad_row="quarantine", **names)
    outputs = [name for name in of_good.columns if name not in df.columns]
    assert with_reasons.columns == [*df.columns, *outputs, ERROR]
    assert with_nulls.columns == of_good.columns
    assert with_reasons.drop(ERROR).schema == with_nulls.schema == of_good.schema
    errors = with_reasons.withColumn(ERROR, F.col(ERROR)["error"])
    # Each table is computed once, and sorted here.
    whole, nulled, split = (made.toArrow().sort_by("id") for made in (of_good, with_nulls, errors))
    is_good = pc.is_null(split[ERROR])
    assert split.filter(is_good).drop_columns([ERROR]).equals(whole)
    assert split.drop_columns([ERROR]).equals(nulled)
    rest = split.filter(pc.invert(is_good)).to_pylist()
    assert {row["id"]: row[ERROR] for row in rest} == bad
    assert all(row[name] is None for row in rest for name in outputs)


def test_nulls_and_ragged_rows(spark: SparkSession, mlp: Model) -> None:
    x: list[Any] = features(ROWS).tolist()
    x[3], x[50], x[51], x[199] = None, x[50][:7], [], [*x[199][:7], None]
    df = spark.createDataFrame(list(enumerate(x)), "id long, x array<float>").repartition(3, "id")
    check(df, mlp, {3: "NullValue", 50: "WrongValue", 51: "WrongValue", 199: "WrongValue"})


def test_ids_that_are_in_no_embedding(spark: SparkSession, lookup: Model) -> None:
    ids: list[Any] = [i % 50 for i in range(ROWS)]
    ids[7], ids[100], ids[101], ids[160] = 50, -51, None, 2**62
    df = spark.createDataFrame(list(enumerate(ids)), "id long, v long").repartition(2, "id")
    bad = {7: "IndexError", 100: "IndexError", 101: "NullValue", 160: "IndexError"}
    check(df, lookup, bad, inputs={"input": "v"})


def test_damaged_pictures(spark: SparkSession, looker: Model) -> None:
    rows: list[Any] = [picture(i % 40) for i in range(60)]
    rows[5], rows[6], rows[30], rows[59] = damaged(rows[5]), b"", None, b"no picture"
    df = spark.createDataFrame(list(enumerate(rows)), "id long, image binary").repartition(2, "id")
    scored = kvspark.score(df, looker, on_bad_row="quarantine").where(f"{ERROR} is not null")
    told = {row.id: row[ERROR] for row in scored.collect()}
    assert told[5].message.startswith("the picture cannot be decoded (")
    assert told[59].stage == "features"
    assert told[59].message == "the picture cannot be decoded (UnidentifiedImageError)"
    check(df, looker, {row: why.error for row, why in told.items()})
    assert sorted(told) == [5, 6, 30, 59]


def test_damaged_sounds(spark: SparkSession, listener: Model) -> None:
    kinds = ("WAV", "OGG", "FLAC")
    rows: list[Any] = [sound(i, kinds[i % 3]) for i in range(30)]
    rows[3], rows[7], rows[8] = damaged(rows[3])[30:], rows[7][:40], b"RIFF"
    rows[12], rows[29] = None, sound(29, "WAV")[:30]
    df = spark.createDataFrame(list(enumerate(rows)), "id long, audio binary").repartition(2, "id")
    scored = kvspark.score(df, listener, on_bad_row="quarantine").where(f"{ERROR} is not null")
    told = {row.id: row[ERROR].error for row in scored.collect()}
    assert sorted(told) == [3, 7, 8, 12, 29]
    assert told[12] == "NullValue"
    check(df, listener, told)


def test_every_row_may_be_bad(spark: SparkSession, lookup: Model) -> None:
    df = spark.range(1_000).withColumn("input", F.col("id") + 50).repartition(2, "id")
    tally = Tally(spark)
    scored = kvspark.score(df, lookup, on_bad_row="null", stats=tally)
    assert scored.where("output is null").count() == 1_000
    assert tally.stats.bad_rows == {"0": {"IndexError": 1_000}}
    assert tally.stats.rows == 1_000


def test_by_default_the_row_and_the_stage_are_named_and_nothing_is_quoted(
    spark: SparkSession, lookup: Model
) -> None:
    rows = [(i, 987_654_321 if i == 33 else i % 50) for i in range(40)]
    df = spark.createDataFrame(rows, "id long, input long").coalesce(1)
    with pytest.raises(PythonException) as caught:
        kvspark.score(df, lookup).collect()
    text = str(caught.value)
    said = (
        "kvspark.errors.RowError: row 33 of partition 0: stage '0': an id far above 0..49; filter"
    )
    assert said in text
    assert "987654321" not in text
    assert "out of range" not in text


def test_a_table_that_tells_of_bad_rows_already_is_refused(
    spark: SparkSession, table: DataFrame, mlp: Model
) -> None:
    df = table.withColumn("_KVSPARK_error", F.lit(None))
    with pytest.raises(UsageError, match="has a column '_kvspark_error' already"):
        kvspark.score(df, mlp, on_bad_row="quarantine")


def test_a_choice_that_is_none_is_refused(table: DataFrame, mlp: Model) -> None:
    with pytest.raises(UsageError, match="on_bad_row must be one of error, null, quarantine"):
        kvspark.score(table, mlp, on_bad_row="drop")  # type: ignore[arg-type]


def test_a_task_stops_at_the_first_row_above_the_limit() -> None:
    why = BadRow("head", "IndexError", "it raised IndexError")
    batch = pa.record_batch({"id": [0, 1, 2]})
    read = []

    def scored() -> Iterator[Scored]:
        for number in range(4):
            read.append(number)
            yield batch, batch, {0: why}

    with pytest.raises(BadRowsError, match="3 rows of one task are bad and 2 are allowed"):
        list(NullOutputs(most=2).kept(scored()))
    assert read == [0, 1, 2]
