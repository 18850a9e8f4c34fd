"""One copy of the weights a host, and none of those that nobody needs: MiniLM, 90 MB, four workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.redis_server import running_redis

pytestmark = [pytest.mark.spark, pytest.mark.redis, pytest.mark.slow]

WORKERS = 4


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `tests.spark.weights_in_memory` measured."""
    folder = tmp_path_factory.mktemp("memory")
    (folder / "tmp").mkdir()
    (folder / "models").mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(folder / "tmp"),
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    with running_redis() as server:
        command = [sys.executable, "-m", "tests.spark.weights_in_memory"]
        done = subprocess.run(
            [*command, str(folder / "models"), server.url],
            env=environment,
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-3000:]
    value: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert value["size_bytes"] > 90e6
    return value


@pytest.mark.parametrize("way", ["broadcast", "path"])
def test_four_workers_have_one_copy_of_the_weights(told: dict[str, Any], way: str) -> None:
    workers = told[f"four_by_{way}"]
    assert len(workers) == WORKERS
    mapped = sum(worker["pss"] for worker in workers)
    # Whatever opening the weights has added to each worker's own memory: a library that copied them
    # would hide from the mapping.
    copied = sum(worker["opened"] for worker in workers)
    assert 0.3 * told["size_bytes"] < mapped  # they are in use
    assert mapped + copied < 1.3 * told["size_bytes"], workers


@pytest.mark.parametrize("way", ["path", "redis", "broadcast"])
def test_a_retrained_head_on_a_warm_cache_maps_no_page_of_the_trunk(
    told: dict[str, Any], way: str
) -> None:
    night = told[f"last_by_{way}"]
    assert (night["rows"], night["workers"], night["on_host"]) == (64, WORKERS, False)
    for mapped in night["mapped"]:
        # The head is there, in the model's own folder or in the one that workers share.
        place = "/last/stages/head/" if way == "path" else "/kvspark-"
        assert any(place in name for name in mapped)
        assert not any("trunk" in name or told["sha256"] in name for name in mapped)


def test_a_retrained_head_on_a_warm_cache_reads_no_page_of_the_trunk(told: dict[str, Any]) -> None:
    assert (told["pages_before"], told["pages_after"]) == (0, 0)
    # The measure itself sees pages where somebody has read them.
    assert told["pages_used"] > 1000
