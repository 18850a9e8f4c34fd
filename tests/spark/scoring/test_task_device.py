"""What a task computes on: CPUs, unless the model asks for the GPU that Spark gave it."""

from __future__ import annotations

import pytest
from pyspark import TaskContext
from pyspark.sql import SparkSession

from kvspark.errors import ModelError
from kvspark.infer.model import Model
from kvspark.spark.scoring.task_device import device_of_task, on_task_devices, task_resources


def test_a_model_without_a_device_computes_on_cpus() -> None:
    assert device_of_task(None, {"gpu": ["1"]}) == "cpu"
    assert device_of_task("cpu", {"gpu": ["1"]}) == "cpu"


def test_a_task_computes_on_the_first_gpu_that_spark_gave_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert device_of_task("cuda", {"gpu": ["3", "4"]}) == "cuda:3"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa,GPU-bb")
    assert device_of_task("cuda", {"gpu": ["GPU-bb"]}) == "cuda:1"


@pytest.mark.parametrize("resources", [{}, {"gpu": []}, {"fpga": ["0"]}])
def test_a_task_without_a_gpu_says_which_settings_give_one(
    resources: dict[str, list[str]],
) -> None:
    with pytest.raises(ModelError, match=r"spark\.task\.resource\.gpu\.amount"):
        device_of_task("cuda", resources)


@pytest.mark.spark
def test_a_session_without_gpus_leaves_a_model_as_it_is(spark: SparkSession, mlp: Model) -> None:
    assert on_task_devices(spark, mlp.bundle) is mlp.bundle
    assert on_task_devices(spark, mlp.with_device("cuda").bundle).device == "cuda"
    assert TaskContext.get() is None
    assert task_resources() == {}


@pytest.mark.spark
def test_a_model_for_gpus_fails_in_a_task_that_has_none(spark: SparkSession, mlp: Model) -> None:
    import kvspark

    df = spark.createDataFrame([(0, [0.0] * 8)], "id long, x array<float>")
    with pytest.raises(Exception, match="Spark gave this task none"):
        kvspark.score(df, mlp.with_device("cuda")).collect()
