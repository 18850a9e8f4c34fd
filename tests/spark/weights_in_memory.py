"""How much memory four workers take for one model of 90 MB, and what night 3 leaves untouched; run as a program.

Prints one JSON object. It has a Spark of its own, for four fresh workers, and a TMPDIR of its own, so
that no earlier run has left the weights on this host.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import mmap
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.sql import SparkSession

import kvspark
from kvspark.config.model import Way
from kvspark.demo.classifier import MAX_LENGTH, Classifier, Head, encoder_folder, load_trunk
from kvspark.infer.model import Model
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.model.features.text import TextFeatures
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spark.columns.column_map import ColumnMap
from kvspark.spark.scoring.score import task_spec
from kvspark.spark.scoring.score_task import ScoreTask
from kvspark.spark.scoring.worker import TaskSpec, predictor_for
from tests.redis_server import PATIENT_MS
from tests.small_models import seeded

WORKERS = 4
TEXTS = [f"a gloss of the noun number {n}" for n in range(64)]
WEIGHTS = "weights.safetensors"
TRUNK = f"stages/trunk/{WEIGHTS}"


def main(folder: Path, store: str) -> dict[str, Any]:
    """What was measured; `folder` is empty, and `store` as well."""
    trunk = load_trunk()
    features = TextFeatures.from_pretrained(encoder_folder(), max_length=MAX_LENGTH)
    for night in ("first", "last"):
        whole = Classifier(trunk, seeded(Head(5), seed=len(night))).eval()
        Model.from_torch(whole, features=features, cuts=["trunk"]).save(folder / night)
    del trunk
    first, last = (Model.load(folder / night) for night in ("first", "last"))
    cache = kvspark.Cache.connect(store, namespace="memory", timeout_ms=PATIENT_MS)
    first.predict({"text": TEXTS}, cache=cache, threads=1)
    spark = SparkSession.builder.master(f"local[{WORKERS},4]").getOrCreate()
    told: dict[str, Any] = {**last.bundle.files[TRUNK]}
    # Before anything on this host needs the trunk of `last`: by path first, whose own file is watched.
    drop_pages(folder / "last" / TRUNK)
    told["pages_before"] = pages(folder / "last" / TRUNK)
    told["last_by_path"] = last_night(spark, last, cache, "path")
    told["pages_after"] = pages(folder / "last" / TRUNK)
    told["last_by_redis"] = last_night(spark, Model.load(folder / "last"), cache, "redis")
    told["last_by_broadcast"] = last_night(spark, Model.load(folder / "last"), cache, "broadcast")
    spec = task_spec(spark, compiled_plan(first.bundle), None)
    told["four_by_broadcast"] = open_in_all(spark, spec, folder)
    # Another plan is another predictor, which opens the files again.
    spec = task_spec(spark, compiled_plan(first.bundle, Plan(max_pending_rows=5)), None, "path")
    told["four_by_path"] = open_in_all(spark, spec, folder)
    spark.stop()
    told["pages_used"] = pages(folder / "first" / TRUNK)
    return told


def last_night(spark: SparkSession, model: Model, cache: kvspark.Cache, way: Way) -> dict[str, Any]:
    """The files that workers have mapped, and whether the host has the trunk's, after a re-trained head has run."""
    columns = ColumnMap({"text": "text"}, {"label_id": "label_id"})
    # Another plan is another predictor, which opens files anew; the head's results are in no cache.
    plan = Plan({"head": StagePlan(cached=False)}, max_pending_rows=100 + len(way))
    spec = task_spec(spark, compiled_plan(model.bundle, plan), cache, way)
    scoring = ScoreTask(spec, columns, {"text": 0}, ("text", "label_id"), "call", None)

    def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = sum(batch.num_rows for batch in scoring.run(batches))
        mapped = {line.split(maxsplit=5)[5] for line in _lines("maps") if _is_weights(line)}
        told = {"rows": rows, "pid": os.getpid(), "mapped": sorted(mapped)}
        yield pa.RecordBatch.from_pylist([{"told": json.dumps(told)}])

    df = spark.createDataFrame([(text,) for text in TEXTS], "text string").repartition(WORKERS)
    workers = [json.loads(row.told) for row in df.mapInArrow(task, "told string").collect()]
    shared = Path(os.environ["TMPDIR"], f"kvspark-{os.getuid()}")
    return {
        "rows": sum(worker["rows"] for worker in workers),
        "workers": len({worker["pid"] for worker in workers}),
        "mapped": [worker["mapped"] for worker in workers],
        "on_host": (shared / model.bundle.files[TRUNK]["sha256"]).exists(),
    }


def open_in_all(spark: SparkSession, spec: TaskSpec, folder: Path) -> list[dict[str, int]]:
    """What each worker takes for the weights, measured while all of them have them open."""
    meetings = folder / f"meetings-{time.monotonic_ns()}"
    meetings.mkdir()

    def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        list(batches)
        predictor = predictor_for(spec)
        texts = {"text": pa.array(TEXTS[:32])}
        features, *graphs = predictor.bundle.stages
        predictor.resolver.computations.of(features)
        importlib.import_module("kvspark.model.run.weights")  # and torch with it
        meet(meetings, "start")
        before = _anonymous_bytes()
        for stage in graphs:
            predictor.resolver.computations.of(stage)
        opened = _anonymous_bytes() - before
        predictor.predict(texts)
        meet(meetings, "used")
        told = {"pss": _pss_bytes(), "opened": opened, "used": _anonymous_bytes() - before}
        meet(meetings, "measured")
        yield pa.RecordBatch.from_pylist([{"told": json.dumps(told)}])

    rows = spark.range(WORKERS, numPartitions=WORKERS).mapInArrow(task, "told string").collect()
    return [json.loads(row.told) for row in rows]


def meet(folder: Path, place: str) -> None:
    """Returns when all workers are here."""
    (folder / f"{place}.{os.getpid()}").touch()
    ends = time.monotonic() + 120
    while len(list(folder.glob(f"{place}.*"))) < WORKERS:
        assert time.monotonic() < ends, "the workers do not meet"
        time.sleep(0.05)


def _lines(name: str) -> list[str]:
    return Path("/proc/self", name).read_text().splitlines()


def _is_weights(line: str) -> bool:
    """True for the line of a mapping of a model's file, on the host or in a bundle."""
    return "/kvspark-" in line or WEIGHTS in line


def _pss_bytes() -> int:
    """Of the weights: what is in memory of their mappings, shared pages by the number of sharers."""
    total, is_ours = 0, False
    for line in _lines("smaps"):
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_ours = _is_weights(line)
        elif is_ours and line.startswith("Pss:"):
            total += int(line.split()[1]) * 1024
    return total


def _anonymous_bytes() -> int:
    line = next(line for line in _lines("smaps_rollup") if line.startswith("Anonymous:"))
    return int(line.split()[1]) * 1024


def drop_pages(path: Path) -> None:
    """Takes a file out of the page cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def pages(path: Path) -> int:
    """Pages of a file that are in memory, for whomever. Source: mincore(2)."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as opened:
        count = -(-len(opened) // mmap.PAGESIZE)
        resident = (ctypes.c_ubyte * count)()
        start = ctypes.c_char.from_buffer(opened)
        libc = ctypes.CDLL(None, use_errno=True)
        address = ctypes.c_void_p(ctypes.addressof(start))
        assert libc.mincore(address, ctypes.c_size_t(len(opened)), resident) == 0
        del start
    return sum(state & 1 for state in resident)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2])))
