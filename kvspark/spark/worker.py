"""What a Python worker keeps from one task to the next: its predictors.

This is the only module of kvspark with state. Spark starts a worker once and runs many tasks in it,
so a model is opened once for all of them; two are kept, for a job that compares one model with
another. The module imports neither torch nor the store's client before the first row arrives.
"""

from __future__ import annotations

import ctypes
import sys
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from pyspark import TaskContext

from kvspark.config.cache import CacheConfig
from kvspark.infer.plan import Plan
from kvspark.spark.ship import HostOpener, Shipped

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.infer.predictor import Predictor

_KEPT = 2
_GIB = 1 << 30
# glibc's malloc.h
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3


@final
@dataclass(frozen=True, slots=True)
class TaskSpec:
    """What a task computes with; crosses to the workers. Holds no secret and no client."""

    key: bytes
    """Equal keys: equal model, plan and cache."""
    shipped: Shipped
    plan: Plan
    cache: CacheConfig | None


@final
@dataclass(frozen=True, slots=True)
class _Kept:
    predictor: Predictor
    cache: Cache | None
    opener: HostOpener


_kept: OrderedDict[tuple[bytes, int], _Kept] = OrderedDict()


def predictor_for(spec: TaskSpec) -> Predictor:
    """The predictor of this worker for `spec`, made now if it has none."""
    key = (spec.key, task_threads())
    if key not in _kept:
        while len(_kept) >= _KEPT:
            _, dropped = _kept.popitem(last=False)
            if dropped.cache is not None:
                dropped.cache.close()
        _kept[key] = _open(spec, threads=key[1])
    _kept.move_to_end(key)
    _kept[key].opener.bring_from(spec.shipped)
    return _kept[key].predictor


def task_threads() -> int:
    """The CPUs that Spark gives the running task: the threads that it may compute with."""
    context = TaskContext.get()
    return 1 if context is None else max(1, context.cpus())


def _open(spec: TaskSpec, *, threads: int) -> _Kept:
    _keep_freed_memory()
    from kvspark.infer.predictor import Predictor

    cache = None if spec.cache is None else _connect(spec.cache)
    opener = HostOpener(spec.shipped)
    return _Kept(
        Predictor(opener.bundle, plan=spec.plan, cache=cache, threads=threads), cache, opener
    )


def _connect(config: CacheConfig) -> Cache:
    from kvspark.cache.cache import Cache

    return Cache.from_config(config)


def _keep_freed_memory() -> None:
    """Makes glibc keep what torch frees, before torch is there.

    By default each large tensor is mapped and unmapped again, and the kernel clears its pages every
    time: 10 % of the first seconds of a CPU run (MiniLM, 2 cores).

    Source: mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(_M_MMAP_THRESHOLD, _GIB)
        libc.mallopt(_M_TRIM_THRESHOLD, _GIB)
