"""Spark Connect: a real server, no SparkContext, and the same rows."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kvspark.infer.model import Model
from tests.connect_server import connect_environment
from tests.redis_server import running_redis
from tests.small_models import Mlp, seeded

pytestmark = [pytest.mark.spark, pytest.mark.redis]


def test_a_session_of_spark_connect_scores_by_artifact_path_and_redis(tmp_path: Path) -> None:
    module = seeded(Mlp(), seed=secrets.randbits(31))
    model = Model.from_torch(module, {"x": torch.zeros(4, 8)}, cuts=["trunk"])
    model.save(tmp_path / "model")
    root = str(Path(__file__).parents[2])
    environment = connect_environment(root)
    with running_redis() as server:
        command = [sys.executable, "-m", "tests.spark.connect_session"]
        done = subprocess.run(
            [*command, str(tmp_path / "model"), server.url],
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["session"] == "pyspark.sql.connect.session"
    x = np.repeat(np.arange(100, dtype="float32")[:, None] % 7 - 3, 8, axis=1)
    wanted = model.predict({"x": x}, threads=1)["scores"]
    assert told["ended"] >= 6  # Spark's own progress handlers see what `score` and `udf` run
    assert set(told["scores"]) == {
        "default",
        "again",
        "path",
        "redis",
        "hits",
        "udf",
        "joined",
        "joined udf",
    }
    for scores in told["scores"].values():
        assert np.array(scores, dtype="float32").tobytes() == wanted.tobytes()
    broadcast, accumulators, chance = told["refused"]
    assert "rand is drawn by chance" in chance
    assert "Spark Connect has no broadcasts" in broadcast
    assert "Spark Connect has no accumulators" in accumulators
