"""What a job leaves behind of its rows: nothing that can be read without the keys."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark import cloudpickle
from pyspark.sql import SparkSession

from kvspark.cache.cache import Cache
from kvspark.cache.seal.keyring import write_keys
from kvspark.infer.model import Model
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.spark.columns.column_map import column_map
from kvspark.spark.jobs.job import run_score
from kvspark.spark.runs.tally import Tally
from kvspark.spark.scoring.score import score, task_spec
from kvspark.spark.scoring.score_task import ScoreTask
from kvspark.spec import TensorSpec
from tests import callables
from tests.redis_server import PATIENT_MS, RedisAddress, running_redis
from tests.spark.small_jobs import job, published, write_night

pytestmark = [pytest.mark.spark, pytest.mark.redis]

SENTINEL = b"KVSPARK SENTINEL PERSON NO 00417"
"""32 bytes, so that eight floats are this text too."""


def from_same() -> Model:
    """A model whose result is its input: an entry in clear holds the row."""
    x = TensorSpec("x", "float32", (8,))
    y = TensorSpec("y", "float32", (8,))
    return Model.from_callable(callables.same, fingerprint="1", inputs=[x], outputs=[y])


def sentinel_rows(count: int) -> np.ndarray:
    rows = np.random.default_rng(1).standard_normal((count, 8)).astype("<f4")
    rows[::7] = np.frombuffer(SENTINEL, dtype="<f4")
    return rows


@contextmanager
def monitored(server: RedisAddress, path: Path) -> Iterator[None]:
    """Writes what MONITOR tells to `path`."""
    with socket.socket(socket.AF_UNIX) as link, path.open("wb") as out:
        link.connect(server.socket_path)
        link.sendall(b"MONITOR\r\n")

        def copy() -> None:
            while told := link.recv(1 << 16):
                out.write(told)

        copying = threading.Thread(target=copy, daemon=True)
        copying.start()
        yield
        link.shutdown(socket.SHUT_RDWR)
        copying.join(10)


@contextmanager
def listed_processes(told: list[str]) -> Iterator[None]:
    """Adds the command lines of all processes, looked at again and again."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.5):
            running = psutil.process_iter(["cmdline"])
            told.extend(" ".join(process.info["cmdline"] or ()) for process in running)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    yield
    over.set()
    looking.join(10)


def scored_apart(
    folder: Path, server: RedisAddress, key_file: Path
) -> subprocess.CompletedProcess[bytes]:
    """A run of the job as cron would start it, with everything logged that can be."""
    from_same().save(folder / "model")
    (folder / "night").mkdir()
    (folder / "events").mkdir()
    rows = sentinel_rows(140)
    names = [f"{SENTINEL.decode()} {i}" for i in range(len(rows))]
    pq.write_table(pa.table({"id": names, "x": list(rows)}), folder / "night/0.parquet")
    conf = {
        "run": {"name": "private", "id": "night"},
        "input": {"paths": [str(folder / "night")]},
        "model": {"path": str(folder / "model")},
        "output": {"path": str(folder / "out")},
        "cache": {
            "url": server.url,
            "sealing": {"key_file": str(key_file)},
            "timeout_ms": PATIENT_MS,
        },
        "spark": {
            "master": "local[1,4]",
            "conf": {
                "spark.eventLog.enabled": "true",
                "spark.eventLog.dir": (folder / "events").as_uri(),
                "spark.driver.memory": "1g",
            },
        },
    }
    (folder / "score.yaml").write_text(yaml.safe_dump(conf))
    for name in ("crossed", "local"):
        (folder / name).mkdir()
    command = [sys.executable, "-m", "tests.spark.recorded_cli", str(folder / "crossed")]
    command += ["--debug", "score", str(folder / "score.yaml")]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "SPARK_LOCAL_DIRS": str(folder / "local")}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, check=False, timeout=300
    )


@pytest.mark.slow
def store_in_clear(server: RedisAddress) -> None:
    """The entries of the same rows."""
    cache = Cache.connect(server.url, namespace="clear", sealed=False, timeout_ms=PATIENT_MS)
    with closing(cache):
        from_same().predict({"x": sentinel_rows(7)}, cache=cache)


def test_a_sentinel_in_every_input_is_found_nowhere_but_in_input_and_output(tmp_path: Path) -> None:
    key_file, told = tmp_path / "keys", list[str]()
    write_keys(key_file)
    secrets = [line.partition(":")[2] for line in key_file.read_text().splitlines()[1:]]
    (tmp_path / "redis").mkdir()
    with running_redis("--appendonly", "yes") as server:
        with monitored(server, tmp_path / "monitor"), listed_processes(told):
            done = scored_apart(tmp_path, server, key_file)
        assert done.returncode == 0, done.stderr[-2_000:]
        assert server.count("set") >= 100
        crossed = {path.name: path.read_bytes() for path in (tmp_path / "crossed").iterdir()}
        server.ask("SAVE")
        places = {
            **{str(path): path.read_bytes() for path in server.folder.rglob("*") if path.is_file()},
            **{str(path): path.read_bytes() for path in (tmp_path / "events").rglob("*.*")},
            **crossed,
            "monitor": (tmp_path / "monitor").read_bytes(),
            "run report": (tmp_path / "out/_kvspark/run.json").read_bytes(),
            "output and logs": done.stdout + done.stderr,
            "ps": "\n".join(told).encode(),
        }
        # The same rows in clear are found, so that this test would find them.
        store_in_clear(server)
        server.ask("SAVE")
        assert SENTINEL in (server.folder / "dump.rdb").read_bytes()
    assert any(name.endswith(".rdb") for name in places)
    assert any(".aof" in name for name in places)
    assert "tests.spark.recorded_cli" in "\n".join(told)
    # What crossed is what the workers were started with: the task, the model's files, Spark's own.
    assert any(b"ScoreTask" in found for name, found in crossed.items() if "closure" in name)
    assert any(b"callable.json" in found for name, found in crossed.items() if "broadcast" in name)
    assert any(name.startswith("local") for name in crossed)
    assert SENTINEL in cloudpickle.dumps(sentinel_rows(7))
    for place, content in places.items():
        assert b"SENTINEL" not in content, place
        for secret in secrets:
            assert secret.encode() not in content, place
            assert bytes.fromhex(secret) not in content, place


def test_what_crosses_to_workers_holds_no_key(spark: SparkSession, tmp_path: Path) -> None:
    key_file = tmp_path / "keys"
    write_keys(key_file)
    model = from_same()
    cache = Cache.connect("redis://127.0.0.1:1", namespace="n", key_file=str(key_file))
    spec = task_spec(spark, compiled_plan(model.bundle), cache)
    columns = column_map(model.bundle, None, None)
    task = ScoreTask(spec, columns, {"x": 0}, ("x", "y"), "call", Tally(spark))
    crossing = cloudpickle.dumps(task.run) + repr((task, cache, cache.config)).encode()
    assert str(key_file).encode() in crossing
    for line in key_file.read_text().splitlines()[1:]:
        secret = line.partition(":")[2]
        assert secret.encode() not in crossing
        assert bytes.fromhex(secret) not in crossing


@contextmanager
def rotated_after(server: RedisAddress, lookups: int, key_file: Path) -> Iterator[list[int]]:
    """Makes a new key and retires all others once the server has answered so many look-ups."""
    first, rotated, over = server.count("mget"), list[int](), threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            if server.count("mget") - first >= lookups:
                number = write_keys(key_file, is_primary=True)
                lines = key_file.read_text().splitlines()
                kept = [line for line in lines if line.startswith(("0:", f"{number}:"))]
                beside = key_file.with_suffix(".new")
                beside.write_text("\n".join(kept))
                beside.chmod(0o600)
                beside.replace(key_file)
                rotated.append(server.count("mget") - first)
                return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    yield rotated
    over.set()
    watching.join(10)


UNWATCHED = {"watch": False}
"""Ten rows at a time take longer to look up than to compute."""


def test_keys_are_rotated_in_the_middle_of_a_job_and_only_the_hits_change(
    spark: SparkSession, tmp_path: Path, mlp: Model
) -> None:
    mlp.save(tmp_path / "model")
    key_file, night = tmp_path / "keys", write_night(tmp_path / "night", 2_000, files=1)
    write_keys(key_file)
    setting = "spark.sql.execution.arrow.maxRecordsPerBatch"
    before = spark.conf.get(setting)
    with running_redis() as server:
        conf = {
            "url": server.url,
            "namespace": "rotated",
            "sealing": {"key_file": str(key_file)},
            "timeout_ms": 5_000,
        }
        run_score(job(tmp_path, night), spark=spark)
        without = published(tmp_path / "out")
        spark.conf.set(setting, "10")
        try:
            reports = [run_score(job(tmp_path, night, cache=conf, plan=UNWATCHED), spark=spark)]
            with rotated_after(server, 40, key_file) as rotated:
                reports.append(
                    run_score(job(tmp_path, night, cache=conf, plan=UNWATCHED), spark=spark)
                )
            assert published(tmp_path / "out").equals(without)
            asked = server.count("mget")
            config = job(tmp_path, night, cache=conf, plan=UNWATCHED)
            reports += [run_score(config, spark=spark) for _ in range(2)]
        finally:
            spark.conf.set(setting, str(before))
    assert published(tmp_path / "out").equals(without)
    assert rotated
    assert rotated[0] < asked
    hits = [report.stats.stages["output"].hits for report in reports]
    assert hits[0] == 0
    assert 0 < hits[1] < 2_000
    assert 0 < hits[2] < 2_000
    assert hits[3] == 2_000
    assert reports[1].stats.cache_errors["unknown_key"] > 0
    assert not any(report.stats.degraded for report in reports)


def test_two_tenants_in_one_job_share_no_entry_and_both_get_the_same_bits(
    spark: SparkSession, tmp_path: Path, mlp: Model
) -> None:
    night = write_night(tmp_path / "night", 100)
    df = spark.read.parquet(str(night))
    with running_redis() as server:
        caches = [
            Cache.connect(server.url, namespace="n", tenant=tenant, timeout_ms=5_000)
            for tenant in ("a", "b")
        ]
        found: list[list[int]] = []
        for _ in range(2):
            tallies: list[Any] = [Tally(spark), Tally(spark)]
            both = [
                score(df, mlp, cache=cache, stats=tally)
                for cache, tally in zip(caches, tallies, strict=True)
            ]
            first, second = (part.toArrow().sort_by("id") for part in both)
            found.append([tally.stats.stages["output"].hits for tally in tallies])
    assert first.equals(second)
    assert found == [[0, 0], [100, 100]]
