"""Pictures and sounds as columns of a table, scored by the job that a conf describes."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import yaml
from PIL import Image
from pyspark.sql import SparkSession

import kvspark
from kvspark.config.reading.load import load_job_config
from kvspark.errors import RowError
from kvspark.infer.model import Model
from kvspark.model.features.audio import AudioFeatures
from kvspark.model.features.image import ImageFeatures
from kvspark.spark.jobs.job import run_score
from kvspark.spark.runs.run_report import RunReport
from kvspark.spec import MicroBatch
from tests.real_models import (
    DAISY,
    PALACE,
    efficientnet,
    from_silero,
    photographs,
    silero,
    speech_detector,
)
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis
from tests.small_models import seeded
from tests.spark.small_jobs import published

pytestmark = pytest.mark.spark

RATE = 16_000
WINDOW = 512
CLIP = 95 * WINDOW
"""Samples of a clip: three seconds."""


@pytest.fixture
def redis() -> Iterator[RedisAddress]:
    with running_redis() as server:
        yield server


def write_table(folder: Path, contents: list[bytes], files: int = 2) -> Path:
    """A folder of `id` and `content` in `files` files."""
    night = folder / "night"
    night.mkdir()
    for number, ids in enumerate(np.array_split(np.arange(len(contents)), files)):
        rows = pa.array([contents[i] for i in ids], pa.binary())
        pq.write_table(pa.table({"id": ids, "content": rows}), night / f"{number}.parquet")
    return night


def write_conf(folder: Path, column: str, redis: RedisAddress | None) -> Path:
    """The conf that scores `night` with `model`; `column` is what the model calls the content."""
    conf: dict[str, Any] = {
        "run": {"name": "modalities", "id": "night"},
        "input": {"paths": [str(folder / "night")]},
        "model": {"path": str(folder / "model")},
        "inputs": {column: "content"},
        "output": {"path": str(folder / "out")},
        "spark": {"master": "local[2,4]"},
    }
    if redis is not None:
        conf["cache"] = {"url": redis.url, "timeout_ms": PATIENT_MS}
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(conf))
    return path


def run(conf: Path, spark: SparkSession) -> tuple[RunReport, pa.Table]:
    report = run_score(load_job_config(conf, sets=[], environ={}), spark=spark)
    return report, published(conf.parent / "out")


def run_twice(conf: Path, spark: SparkSession, rows: int) -> pa.Table:
    """What two runs of `conf` published, of which the second computed nothing."""
    first, table = run(conf, spark)
    last = first.stages[-1].name
    assert first.stats.stages[last].computed == rows
    second, again = run(conf, spark)
    for stage in second.stats.stages.values():
        assert (stage.computed, stage.micro_batches, stage.weights_loaded) == (0, 0, 0)
    assert second.stats.stages[last].hits == rows
    assert not second.stats.cache_errors
    assert again.equals(table)
    return table


def bits(table: pa.Table, column: str) -> bytes:
    return np.array(table[column].to_pylist(), dtype=np.float32).tobytes()


# ---------------------------------------------------------------- real ones


def pictures() -> list[bytes]:
    """The two photographs as they are, and five windows of each as JPEG, PNG or WebP."""
    whole = list(photographs().values())
    tiles = []
    for content in whole:
        photograph = Image.open(BytesIO(content))
        for place in range(5):
            left, top = 70 * place, 35 * place
            into = BytesIO()
            kind = ("JPEG", "PNG", "WEBP")[place % 3]
            photograph.crop((left, top, left + 300, top + 260)).save(into, kind)
            tiles.append(into.getvalue())
    return whole + tiles


@pytest.mark.slow
@pytest.mark.redis
def test_efficientnet_scores_real_pictures_and_computes_none_again(
    tmp_path: Path, spark: SparkSession, redis: RedisAddress
) -> None:
    features = ImageFeatures(
        # Smaller than the 224 pixels that it was trained on, which take half as long again.
        size=220,
        crop=192,
        resample="bicubic",
        scale=1.0,
        mean=(127.0,) * 3,
        std=(128.0,) * 3,
        output="inputs",
    )
    module, contents = efficientnet(), pictures()
    model = Model.from_torch(
        module, features=features, name="efficientnet-lite0", micro_batch=MicroBatch(rows=32)
    )
    model.save(tmp_path / "model")
    write_table(tmp_path, contents)
    table = run_twice(write_conf(tmp_path, "image", redis), spark, len(contents))
    expected = model.predict({"image": contents}, threads=1)["output"]
    assert bits(table, "output") == expected.tobytes()
    assert expected[:2].argmax(axis=1).tolist() == [PALACE, DAISY]
    (given,) = features.computation().run([contents[:8]])
    with torch.inference_mode():
        eager = module(torch.from_numpy(np.asarray(given))).numpy()
    assert np.allclose(expected[:8], eager, rtol=0, atol=1e-4)


def recordings() -> list[bytes]:
    """Twenty clips of a minute of speech, as WAV, FLAC or Ogg, and a recording without any."""
    speech, rate = soundfile.read(BytesIO(from_silero("tests/data/test.wav")), dtype="int16")
    assert rate == RATE
    clips = []
    for place in range(20):
        into = BytesIO()
        kind = ("WAV", "FLAC", "OGG")[place % 3]
        clip = speech[place * 3 * RATE : (place + 1) * 3 * RATE]
        soundfile.write(into, clip, RATE, format=kind)
        clips.append(into.getvalue())
    return [*clips, from_silero("tests/data/test.opus")]


@pytest.mark.slow
@pytest.mark.redis
def test_silero_hears_speech_in_real_recordings_and_computes_none_again(
    tmp_path: Path, spark: SparkSession, redis: RedisAddress
) -> None:
    contents = recordings()
    model = Model.from_torch(
        speech_detector(),
        features=AudioFeatures(rate=RATE, samples=CLIP),
        cuts=None,
        name="silero-vad",
    )
    model.save(tmp_path / "model")
    write_table(tmp_path, contents)
    table = run_twice(write_conf(tmp_path, "audio", redis), spark, len(contents))
    heard = model.predict({"audio": contents}, threads=1)["speech"]
    assert bits(table, "speech") == heard.tobytes()
    spoken = (heard > 0.5).mean(axis=1)
    assert spoken[:-1].mean() > 0.7
    assert spoken[-1] == 0


@pytest.mark.slow
def test_the_detector_hears_what_silero_itself_hears() -> None:
    content = from_silero("tests/data/test.wav")
    samples, _ = soundfile.read(BytesIO(content), dtype="float32")
    ours, theirs = speech_detector(), silero()
    waveform = torch.from_numpy(samples[: 300 * WINDOW]).unsqueeze(0)
    with torch.inference_mode():
        got = ours(waveform)["speech"][0]
        expected = torch.cat([theirs(part, RATE)[0] for part in waveform.split(WINDOW, dim=1)])
    assert (got - expected).abs().max() < 1e-5


# ---------------------------------------------------------------- small ones


class Shades(torch.nn.Module):
    """Two numbers of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(3, 2)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.head(pixel_values.mean((2, 3)))


@pytest.fixture(scope="module")
def shades() -> Model:
    features = ImageFeatures(size=8, mean=(0.5,) * 3, std=(0.5,) * 3)
    return Model.from_torch(seeded(Shades()), features=features, cuts=None)


def picture(seed: int) -> bytes:
    into = BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(noise).save(into, "PNG")
    return into.getvalue()


def test_a_bad_picture_fails_the_run_by_its_place_and_nothing_is_published(
    tmp_path: Path, spark: SparkSession, shades: Model
) -> None:
    shades.save(tmp_path / "model")
    # Behind the rows that the preflight looks at.
    contents = [picture(i) for i in range(150)]
    contents[120] = b"SECRET"
    write_table(tmp_path, contents, files=1)
    with pytest.raises(RowError) as bad:
        run(write_conf(tmp_path, "image", None), spark)
    text = str(bad.value)
    assert "0.parquet row 120: stage 'features': the picture cannot be decoded" in text
    assert "SECRET" not in text
    assert bad.value.exit_code == 65
    assert not (tmp_path / "out").exists()


def test_a_picture_can_be_scored_in_sql(spark: SparkSession, shades: Model) -> None:
    rows = [(i, picture(i)) for i in range(5)]
    df = spark.createDataFrame(rows, "id long, content binary").coalesce(1)
    expected = shades.predict({"image": [content for _, content in rows]}, threads=1)["output"]
    scored = df.select("id", kvspark.udf(shades)("content").alias("output")).toArrow()
    assert bits(scored.sort_by("id"), "output") == expected.tobytes()
