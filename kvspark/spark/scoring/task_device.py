"""On what the tasks of a job compute: CPUs, or the GPUs that Spark gives them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pyspark import TaskContext
from pyspark.sql import SparkSession

from kvspark.errors import ModelError
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.run.device import CPU, CUDA, VISIBLE, gpu_uuids, visible_index

Resources = Mapping[str, Sequence[str]]
"""By the name of a resource, the addresses that Spark gave to a task."""

_GPUS_PER_TASK = "spark.task.resource.gpu.amount"


def on_task_devices(spark: SparkSession, bundle: Bundle) -> Bundle:
    """`bundle` with a device: the one that it has, else a GPU where Spark gives one to each task."""
    if bundle.device is not None:
        return bundle
    amount = float(spark.conf.get(_GPUS_PER_TASK, "0") or 0)
    return bundle.with_device("cuda") if amount > 0 else bundle


def task_resources() -> Resources:
    """What Spark gave to the running task."""
    context = TaskContext.get()
    given = {} if context is None else context.resources()
    return {name: tuple(resource.addresses) for name, resource in given.items()}


def device_of_task(wanted: str | None, resources: Resources) -> str:
    """The device on which a task computes a model that is made for the class `wanted`.

    The first of its GPUs, if it has several: a worker computes one micro-batch at a time.

    Raises:
        ModelError: the model needs a GPU, and Spark gave the task none, or one that it cannot see.
    """
    if wanted != CUDA:
        return CPU
    addresses = resources.get("gpu", ())
    if not addresses:
        raise ModelError(
            "the model is to compute on a GPU, and Spark gave this task none; set "
            f"spark.executor.resource.gpu.amount and {_GPUS_PER_TASK}, or choose device cpu"
        )
    return f"{CUDA}:{visible_index(addresses[0], os.environ.get(VISIBLE), gpu_uuids)}"
