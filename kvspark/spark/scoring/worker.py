"""What a Python worker keeps from one task to the next: its predictors.

This is the only module of kvspark with state. Spark starts a worker once and runs many tasks in it,
so a model is opened once for all of them; two are kept, for a job that compares one model with
another. The module imports neither torch nor the store's client before the first row arrives.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, final
from zipimport import zipimporter

from pyspark import TaskContext

from kvspark.config.cache import CacheConfig
from kvspark.plan.plan import Plan
from kvspark.spark.scoring.task_device import device_of_task, task_resources
from kvspark.spark.weights.allocator import keep_freed_memory
from kvspark.spark.weights.ship import HostOpener
from kvspark.spark.weights.transport import Shipped

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.infer.predict.predictor import Predictor

_KEPT = 2


@final
@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What a task computes with; crosses to the workers. Holds no secret and no client."""

    key: bytes
    """Equal keys: equal model, plan and cache."""
    shipped: Shipped
    plan: Plan
    """It fits the model: the driver has compiled both."""
    cache: CacheConfig | None


@final
@dataclass(frozen=True, slots=True)
class _Kept:
    predictor: Predictor
    cache: Cache | None
    opener: HostOpener


_kept: OrderedDict[tuple[bytes, int, tuple[str, ...]], _Kept] = OrderedDict()


def predictor_for(spec: TaskSpec) -> Predictor:
    """The predictor of this worker for `spec`, made now if it has none."""
    forget_zip_finders()
    gpus = tuple(task_resources().get("gpu", ()))
    key = (spec.key, task_threads(), gpus)
    if key not in _kept:
        while len(_kept) >= _KEPT:
            _, dropped = _kept.popitem(last=False)
            if dropped.cache is not None:
                dropped.cache.close()
        _kept[key] = _open(spec, threads=key[1])
    _kept.move_to_end(key)
    _kept[key].opener.bring_from(spec.shipped)
    return _kept[key].predictor


def forget_zip_finders() -> None:
    """Takes the finders of zip files out of Python's cache of them; what is imported again makes its own.

    Spark invalidates that cache when a task starts. A finder of a zip file then reads the whole list of
    its files, and pyspark, which workers import from a zip file, leaves one for each of its folders.
    """
    for path, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimporter):
            sys.path_importer_cache.pop(path, None)


def task_threads() -> int:
    """The CPUs that Spark gives the running task: the threads that it may compute with."""
    context = TaskContext.get()
    return 1 if context is None else max(1, context.cpus())


def _open(spec: TaskSpec, *, threads: int) -> _Kept:
    keep_freed_memory()
    from kvspark.infer.predict.predictor import Predictor
    from kvspark.infer.resolve.compiled_plan import CompiledPlan

    cache = None if spec.cache is None else _connect(spec.cache)
    opener = HostOpener(spec.shipped)
    compiled = CompiledPlan.of(opener.bundle, spec.plan)
    device = device_of_task(compiled.bundle.device, task_resources())
    predictor = Predictor(compiled, cache=cache, threads=threads, device=device)
    return _Kept(predictor, cache, opener)


def _connect(config: CacheConfig) -> Cache:
    from kvspark.cache.cache import Cache

    return Cache.from_config(config)
