"""The foretold nights of `make bench`, run small: which numbers are told, never how near they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

import kvspark
from tests.bench.beside.report import kept, write_report
from tests.bench.foretold.foretold import night_of, run
from tests.bench.foretold.told import is_near, line, ratio
from tests.bench.foretold.workloads import WORKLOADS

COUNTS = {
    "lookups": 100,
    "hits": 50,
    "seconds_lookup": 1.0,
    "seconds_insert": 0.5,
    "seconds_compute": 2.5,
}


def report(other_s: float | None = 3.0) -> dict[str, Any]:
    stage = {"cached": True, "hit_rate": 0.4}
    plan = {"with_s": 1.0, "other_s": other_s, "workers": 2, "stages": {"head": stage}}
    seconds = {"open": 1.0, "read": 0.5, "preflight": 0.5, "plan": 0.5, "score": 2.5}
    return {
        "rows_in": 100,
        "total_seconds": 5.0,
        "seconds": seconds,
        "plan": plan,
        "stages": {"head": COUNTS},
    }


def test_a_night_is_what_was_foretold_beside_what_came_true() -> None:
    night = night_of(report())
    assert night["whole_s"] == (4.0, 5.0)
    assert night["left_s"] == (2.0, 3.0)
    assert night["stages_s"] == (1.0, 2.0)
    assert night["hit_rates"] == {"head": (0.4, 0.5)}
    assert ratio(night) == 0.8
    assert is_near(night)
    assert not is_near(night_of(report(other_s=2.0)))
    told = "took 5.00 s, foretold 4.00 s, ratio 0.80; 2.00 s of 1.00 s foretold in stages and store"
    assert told in line(2, night)


def test_of_a_first_night_nothing_is_foretold_and_nothing_missed() -> None:
    night = night_of(report(other_s=None))
    assert ratio(night) is None
    assert is_near(night)
    assert "not foretold" in line(1, night)


def test_a_night_without_a_measured_plan_says_nothing() -> None:
    with pytest.raises(SystemExit, match="no measured plan"):
        night_of({**report(), "plan": None})


def test_there_are_eight_workloads_of_three_nights() -> None:
    assert [len(each.nights) for each in WORKLOADS] == [3] * 8
    assert all(each.few <= each.rows for each in WORKLOADS)


@pytest.mark.spark
@pytest.mark.redis
@pytest.mark.slow
def test_a_workload_is_run_and_told(spark: SparkSession, tmp_path: Path) -> None:
    def here(conf: Mapping[str, Any]) -> Mapping[str, Any]:
        own = {name: section for name, section in conf.items() if name != "spark"}
        return kvspark.run(own, spark=spark).to_json()

    told = run(Console(quiet=True), quick=True, only="MLP 16", run_job=here)
    (nights,) = (each["nights"] for each in told["workloads"].values())
    assert [ratio(night) is None for night in nights] == [True, False, False]
    path = tmp_path / "bench.json"
    write_report(path, {**kept(path, {}), "parts": {"foretold": told}})
    page = (tmp_path / "bench.md").read_text()
    assert page.count("| MLP 16-64-64-2, 20,000 rows |") == 3
    assert json.loads(path.read_text())["parts"]["foretold"]["workloads"].keys() == {
        "MLP 16-64-64-2"
    }
