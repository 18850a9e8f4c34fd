"""Models that a conf names by a file, a folder or a registry's URI, scored twice: the second run computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
import yaml
from pyspark.sql import SparkSession
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import kvspark
from kvspark.config.reading.load import load_job_config
from kvspark.errors import ModelError
from kvspark.infer.model import Model
from kvspark.infer.open_model import open_model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.runs.run_report import RunReport
from tests.file_registry import file_registry
from tests.onnx_models import floats, write
from tests.pretrained_models import digits, save_image_classifier, save_text_classifier
from tests.real_models import from_silero
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis
from tests.small_models import Mlp, seeded
from tests.spark.small_jobs import published

pytestmark = [
    pytest.mark.spark,
    pytest.mark.redis,
    pytest.mark.slow,
    # scikit-learn tells that fifteen rounds are few; they are enough here.
    pytest.mark.filterwarnings("ignore:Stochastic Optimizer"),
]

KERAS = Path(__file__).parents[1] / "tensorflow" / "digits.keras"
ROWS = 150

Made = tuple[str, dict[str, pa.Array]]
"""What `model.path` says, and the columns of the table."""


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisAddress]:
    with running_redis() as server:
        yield server


def flat(rows: Any) -> pa.Array:
    """A column of arrays without a shape, as most tables hold tensors."""
    made = np.ascontiguousarray(rows, dtype=np.float32).reshape(len(rows), -1)
    return pa.array(list(made), pa.list_(pa.float32()))


def keras_file(folder: Path) -> Made:
    del folder
    # 1,400 and the next 63 are the rows on which TensorFlow was asked.
    return str(KERAS), {"image": flat(load_digits().images[1_400 : 1_400 + ROWS] / 16)}


def sklearns_onnx(folder: Path) -> Made:
    """scikit-learn's own network, trained on digits and written as ONNX node by node."""
    found = load_digits()
    network = MLPClassifier((32,), max_iter=15, random_state=3, tol=1.0, n_iter_no_change=20)
    network.fit(found.data[:1_400] / 16, found.target[:1_400])
    weights = [
        onnx.numpy_helper.from_array(value.astype("float32"), f"{kind}{i}")
        for kind, values in (("w", network.coefs_), ("b", network.intercepts_))
        for i, value in enumerate(values)
    ]
    nodes = [
        onnx.helper.make_node("Gemm", ["pixels", "w0", "b0"], ["sum"]),
        onnx.helper.make_node("Relu", ["sum"], ["hidden"]),
        onnx.helper.make_node("Gemm", ["hidden", "w1", "b1"], ["logits"]),
        onnx.helper.make_node("Softmax", ["logits"], ["probability"], axis=1),
    ]
    inputs, outputs = [floats("pixels", "batch", 64)], [floats("probability", "batch", 10)]
    path = write(folder / "digits.onnx", nodes, inputs, outputs, weights)
    pixels = found.data[1_400 : 1_400 + ROWS] / 16
    made = open_model(path).predict({"pixels": pixels.astype("float32")})["probability"]
    assert np.abs(made - network.predict_proba(pixels)).max() < 1e-5
    return str(path), {"pixels": flat(pixels)}


def sileros_onnx(folder: Path) -> Made:
    """What silero-vad's own ONNX file hears in each window of a recording, before its LSTM."""
    whole, path = folder / "silero.onnx", folder / "heard.onnx"
    whole.write_bytes(from_silero("src/silero_vad/data/silero_vad_16k_sequence.onnx"))
    onnx.utils.extract_model(str(whole), str(path), ["input"], ["/Relu_3_output_0"])
    sound, _ = soundfile.read(BytesIO(from_silero("tests/data/test.wav")), dtype="float32")
    return str(path), {"input": flat(np.split(sound[: ROWS * 576], ROWS))}


def pretrained_folder(folder: Path) -> Made:
    save_image_classifier(folder / "vit")
    return str(folder / "vit"), {"image": pa.array(digits()[0][1_500 : 1_500 + ROWS], pa.binary())}


def conf_for(folder: Path, made: Made, redis: RedisAddress | None) -> Path:
    """A conf that names the model by one text, and nothing else of it."""
    path, columns = made
    night = folder / "night"
    night.mkdir()
    pq.write_table(pa.table({"id": np.arange(ROWS), **columns}), night / "0.parquet")
    conf: dict[str, Any] = {
        "run": {"name": "sources", "id": "night"},
        "input": {"paths": [str(night)]},
        "model": {"path": path},
        "output": {"path": str(folder / "out")},
        "spark": {"master": "local[2,4]"},
    }
    if redis is not None:
        conf["cache"] = {"url": redis.url, "timeout_ms": PATIENT_MS}
    (folder / "job.yaml").write_text(yaml.safe_dump(conf))
    return folder / "job.yaml"


def run(conf: Path, spark: SparkSession) -> tuple[RunReport, pa.Table]:
    report = run_score(load_job_config(conf, sets=[], environ={}), spark=spark)
    return report, published(conf.parent / "out")


@pytest.mark.parametrize("make", [keras_file, sklearns_onnx, sileros_onnx, pretrained_folder])
def test_the_second_run_of_a_conf_computes_nothing(
    spark: SparkSession, tmp_path: Path, redis: RedisAddress, make: Callable[[Path], Made]
) -> None:
    made = make(tmp_path)
    conf = conf_for(tmp_path, made, redis)
    first, table = run(conf, spark)
    second, again = run(conf, spark)
    assert first.stats.stages[first.stages[-1].name].computed == ROWS
    assert {name: stage.computed for name, stage in second.stats.stages.items()} == {
        stage.name: 0 for stage in second.stages
    }
    assert not second.stats.degraded
    assert again.equals(table)
    # What the table holds is what the model gives without Spark and without a cache, bit for bit.
    path, columns = made
    model = open_model(path)
    expected = model.predict(columns, threads=1)
    for spec in model.outputs:
        got = np.array(table[spec.name].to_pylist(), dtype=spec.dtype)
        assert got.tobytes() == np.asarray(expected[spec.name]).tobytes()


def test_a_longer_text_has_no_outputs_where_the_conf_says_so(
    spark: SparkSession, tmp_path: Path
) -> None:
    save_text_classifier(tmp_path / "bert")
    texts = ["a small dog " * (20 if row % 50 == 7 else 1 + row % 3) for row in range(ROWS)]
    conf = conf_for(tmp_path, (str(tmp_path / "bert"), {"text": pa.array(texts)}), None)
    _, cut = run(conf, spark)
    asked = yaml.safe_load(conf.read_text())
    asked["model"] |= {"long_texts": "bad"}
    asked["input"] |= {"on_bad_row": "null"}
    conf.write_text(yaml.safe_dump(asked))
    report, table = run(conf, spark)
    is_null = [each is None for each in table["label"].to_pylist()]
    assert [row for row in range(ROWS) if is_null[row]] == [7, 57, 107]
    assert table.drop_null().equals(cut.take([row for row in range(ROWS) if not is_null[row]]))
    assert report.stats.bad_rows == {"features": {"RowError": 3}}


def test_a_job_gives_what_tensorflow_gave(spark: SparkSession, tmp_path: Path) -> None:
    _, table = run(conf_for(tmp_path, keras_file(tmp_path), None), spark)
    theirs = np.load(KERAS.with_suffix(".npy"), allow_pickle=False)
    ours = np.array(table["digit"].to_pylist()[: len(theirs)], dtype=np.float32)
    assert np.abs(ours - theirs).max() < 1e-6


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_registrys_model_finds_what_a_folders_model_left(
    spark: SparkSession, tmp_path: Path, redis: RedisAddress
) -> None:
    model = Model.from_torch(seeded(Mlp()), {"x": torch.zeros(4, 8)}, cuts=["trunk"], name="mlp")
    model.save(tmp_path / "saved")
    rows = np.random.default_rng(3).standard_normal((ROWS, 8))
    conf = conf_for(tmp_path, (str(tmp_path / "saved"), {"x": flat(rows)}), redis)
    _, table = run(conf, spark)
    conf.write_text(conf.read_text().replace(str(tmp_path / "saved"), "models:/mlp/1"))
    with file_registry(tmp_path / "mlruns"):
        kvspark.log_model(model, "mlp", registered_model_name="mlp")
        report, again = run(conf, spark)
    assert all(stage.computed == 0 for stage in report.stats.stages.values())
    assert report.fingerprint == model.fingerprint.hex()
    assert again.equals(table)


def test_sileros_whole_file_is_refused_for_its_state(spark: SparkSession, tmp_path: Path) -> None:
    """Its LSTM goes from one window to the next: rows of a table have no such order."""
    path = tmp_path / "whole.onnx"
    path.write_bytes(from_silero("src/silero_vad/data/silero_vad_16k_sequence.onnx"))
    conf = conf_for(tmp_path, (str(path), {"input": flat(np.zeros((ROWS, 576)))}), None)
    with pytest.raises(ModelError, match=r"input 'h' has shape .* is not a free batch") as refused:
        run(conf, spark)
    assert refused.value.exit_code == 65
    assert not (tmp_path / "out").exists()
