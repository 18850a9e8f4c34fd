"""What a job says that it will take, beside what it took: `make bench ARGS=foretold`.

Each workload is three nights of one output with a Redis beside it that starts empty; each night is a process and a
session of its own, as nightly jobs are, and its plan is measured. The first night has no run before it, so nothing
tells what it takes besides its stages. Asked: the seconds of the second and of the third night are foretold within 25 %.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from kvspark.config.sealing import KEY_ENV
from kvspark.spark.runs.phases import BEFORE_A_PLAN
from tests.bench.beside.failure import first_line
from tests.bench.beside.rounds import THREADS
from tests.bench.beside.workload import CORES
from tests.bench.foretold.told import is_near, line
from tests.bench.foretold.workload import Workload
from tests.bench.foretold.workloads import WORKLOADS
from tests.redis_server import RedisAddress, running_redis
from tests.sealing_keys import TEST_KEYS

LONGEST_S = 300.0
_RUN = (
    "import json, sys, kvspark; print(json.dumps(kvspark.run(json.loads(sys.argv[1])).to_json()))"
)

Report = Mapping[str, Any]
RunJob = Callable[[Mapping[str, Any]], Report]
"""The report of a run of a conf, as JSON types."""


def run(
    console: Console, *, quick: bool = False, only: str = "", run_job: RunJob | None = None
) -> dict[str, Any]:
    """All workloads, or those with `only` in their name, and whether the target is met; prints each night."""
    begun, load = time.perf_counter(), os.getloadavg()[0]
    found: dict[str, Any] = {}
    with running_redis() as server:
        for workload in WORKLOADS:
            if only not in workload.name:
                continue
            rows = workload.few if quick else workload.rows
            console.print(f"[bold]{workload.name}[/bold], {rows:,} rows", highlight=False)
            nights = []
            for night in nights_of(workload, rows, server, run_job or in_a_process):
                nights.append(night)
                console.print(f"  {line(len(nights), night)}", highlight=False)
            found[workload.name] = {"rows": rows, "nights": nights}
    return {
        "workloads": found,
        "targets_met": all(is_near(night) for each in found.values() for night in each["nights"]),
        "load_before": round(load, 2),
        "took_s": round(time.perf_counter() - begun, 1),
    }


def nights_of(
    workload: Workload, rows: int, server: RedisAddress, run_job: RunJob
) -> Iterator[dict[str, Any]]:
    """What was foretold of each night of `workload`, and what came true."""
    with tempfile.TemporaryDirectory(prefix="kvspark-foretold-") as name:
        folder = Path(name)
        for table, model in workload.write(folder, rows):
            conf = {
                "run": {"name": "foretold"},
                "input": {"paths": [str(table)]},
                "model": {"path": str(model)},
                "output": {"path": str(folder / "out")},
                "cache": {"url": server.url, "namespace": folder.name, "timeout_ms": 5_000},
                "spark": {"master": f"local[{CORES}]"},
            }
            yield night_of(run_job(conf))


def night_of(report: Report) -> dict[str, Any]:
    """One run: what was foretold, beside what came true.

    Of the whole run, in seconds; of what was left of it when it was planned; and of its stages and store.

    Raises:
        SystemExit: its plan was not measured.
    """
    plan, seconds = report["plan"], report["seconds"]
    if plan is None:
        raise SystemExit(
            f"a run of {report['rows_in']} rows had no measured plan; this says nothing"
        )
    passed_s = sum(seconds[name] for name in BEFORE_A_PLAN)
    own = report["stages"].values()
    counted = ("seconds_lookup", "seconds_insert", "seconds_compute")
    stages_s = sum(stage[each] for stage in own for each in counted) / plan["workers"]
    foretold_s = None if plan["other_s"] is None else plan["with_s"] + plan["other_s"]
    left_s = None if foretold_s is None else foretold_s - passed_s
    return {
        "whole_s": (foretold_s, report["total_seconds"]),
        "left_s": (left_s, report["total_seconds"] - passed_s),
        "stages_s": (plan["with_s"], stages_s),
        "cached": [name for name, stage in plan["stages"].items() if stage["cached"]],
        "hit_rates": {
            name: (stage["hit_rate"], counts["hits"] / counts["lookups"])
            for name, stage in plan["stages"].items()
            if (counts := report["stages"][name])["lookups"]
        },
        "seconds": seconds,
    }


def in_a_process(conf: Mapping[str, Any]) -> Report:
    """The report of a run of `conf` in a process of its own.

    Raises:
        SystemExit: the run failed; says with what.
    """
    environment = {name: value for name, value in os.environ.items() if name not in THREADS}
    environment |= {"HF_HUB_OFFLINE": "1", KEY_ENV: os.environ.get(KEY_ENV, TEST_KEYS)}
    done = subprocess.run(
        [sys.executable, "-c", _RUN, json.dumps(conf)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    if done.returncode:
        raise SystemExit(first_line(done.stderr + "\n" + done.stdout))
    made: Report = json.loads(done.stdout.splitlines()[-1])
    return made
