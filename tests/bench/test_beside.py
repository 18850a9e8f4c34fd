"""The comparison of `make bench`, run small: right rows and complete reports, never times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from tests.bench.__main__ import chosen
from tests.bench.beside.asked import answers
from tests.bench.beside.contestant import measured
from tests.bench.beside.contestants import BY_NAME, CACHED, CONTESTANTS, OURS, SPARKS, Contestant
from tests.bench.beside.environments import NotInstalledError
from tests.bench.beside.failure import first_line
from tests.bench.beside.prepare import prepared
from tests.bench.beside.report import kept, trouble, write_report
from tests.bench.beside.rounds import in_turns, run
from tests.bench.beside.workload import read_workload

QUIET = Console(quiet=True)
ROWS = 2_000


def here(contestant: Contestant, folder: Path, out: Path) -> dict[str, Any]:
    """As `run`, in this process and its Spark session."""
    out.mkdir()
    return measured(contestant, read_workload(folder), folder, out)


@pytest.mark.spark
@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_quick_run_gives_right_rows_and_names_every_contestant(
    spark: SparkSession, tmp_path: Path
):
    """In one Spark session, and with the work that costs least."""
    assert len(chosen([], quick=True)) >= 8
    work = prepared("tabular", ROWS, tmp_path)
    told = in_turns(work, chosen([], quick=True), 1, tmp_path, QUIET, measure=here)
    workloads = {"tabular": told}
    assert trouble(workloads) == []
    able = {each.name for each in chosen([], quick=True) if "tabular" in each.kinds}
    assert {name for name, each in told["contestants"].items() if "nights" in each} == able
    for name in able:
        nights = told["contestants"][name]["nights"]
        assert all(night["agrees"] for night in nights.values()), name
    paths = write_report(tmp_path / "bench.json", kept(tmp_path / "bench.json", workloads))
    names = {"bench.json", "bench.md", "bench-tabular.png", "bench-tabular.svg"}
    assert {path.name for path in paths if path.stat().st_size} == names
    page = (tmp_path / "bench.md").read_text()
    for contestant in chosen([], quick=True):
        assert page.count(f"| {contestant.title} ") == 1, contestant.title


def made_up(seconds: dict[str, float], **more: Any) -> dict[str, Any]:
    """A workload whose contestants took so many seconds on the one night `cold`."""
    nights = {
        name: {"cold": {"median_s": s, "seconds": [s], "spread": 0.0, "agrees": True, **more}}
        for name, s in seconds.items()
    }
    return {
        "contestants": {
            name: {"title": BY_NAME[name].title, "nights": made} for name, made in nights.items()
        }
    }


def test_a_missed_ratio_is_a_miss_and_one_that_nobody_measured_is_none():
    told = {each["ratio"]: each for each in answers({"tabular": made_up({OURS: 2.0, SPARKS: 1.0})})}
    assert told["no cache / `predict_batch_udf`"]["measured"] == 0.5
    assert not told["no cache / `predict_batch_udf`"]["met"]
    assert told["cold / no cache"]["measured"] is None
    assert not told["cold / no cache"]["met"]


def test_nobody_wins_by_computing_something_else():
    told = answers({"tabular": made_up({OURS: 1.0, SPARKS: 2.0}, agrees=False)})
    assert {each["measured"] for each in told} == {None}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tabular")
    prepared("tabular", 50, folder)
    return folder


def test_other_rows_and_bits_that_a_cache_changed_are_told(small: Path):
    """With contestants that write what they like."""
    outputs = {OURS: 1.0, CACHED: 1.0 + 2**-20, SPARKS: 2.0}

    def writes(contestant: Contestant, folder: Path, out: Path) -> dict[str, Any]:
        return written(out, np.full((50, 2), outputs[contestant.name], dtype="f4"))

    told = in_turns(
        read_workload(small), [BY_NAME[name] for name in outputs], 2, small, QUIET, measure=writes
    )
    found = "\n".join(trouble({"tabular": told}))
    assert "Spark `predict_batch_udf` gave other rows: cold" in found
    assert "kvspark gave other bits" in found
    assert "kvspark, Redis" not in found


def test_a_contestant_that_fails_is_in_the_table_with_its_error(small: Path, tmp_path: Path):
    def fails(contestant: Contestant, folder: Path, out: Path) -> dict[str, Any] | str:
        if contestant.environment == "daft":
            raise NotInstalledError("ERROR: no such package")
        return f"ValueError: {contestant.name} | broke"

    told = in_turns(read_workload(small), CONTESTANTS, 1, small, QUIET, measure=fails)
    write_report(tmp_path / "bench.json", kept(tmp_path / "bench.json", {"tabular": told}))
    page = (tmp_path / "bench.md").read_text()
    assert "| Daft | failed: ERROR: no such package |" in page
    assert "| Ray Data | failed: ValueError: ray_data \\| broke |" in page
    assert "| sentence-transformers, one process | not: embeds texts only |" in page
    assert all(f"| {each.title} |" in page for each in CONTESTANTS)


def test_a_report_keeps_what_other_runs_measured(small: Path, tmp_path: Path):
    path = tmp_path / "bench.json"
    path.write_text(
        json.dumps({"workloads": {"pairs-dot": made_up({OURS: 1.0})}, "parts": {"x": 1}})
    )
    told = kept(path, {"tabular": made_up({OURS: 2.0})})
    assert set(told["workloads"]) == {"pairs-dot", "tabular"}
    assert told["parts"] == {"x": 1}


@pytest.mark.slow
def test_a_contestant_runs_in_a_process_of_its_own(small: Path, tmp_path: Path):
    """Its model is any: what it cannot do is a matter of the table."""
    alone = BY_NAME["sentence_transformers"]
    made = run(alone, small, tmp_path / "out")
    assert isinstance(made, dict)
    assert set(made["seconds"]) == {"cold"}
    assert run(alone, tmp_path, tmp_path / "none") == first_line(
        f"FileNotFoundError: [Errno 2] No such file or directory: '{tmp_path / 'workload.json'}'"
    )


def test_the_first_error_that_a_program_printed_is_named():
    printed = "WARN: x\n  File 'a'\nValueError: the cause\n\nDuring ...\nRuntimeError: the rest\n"
    assert first_line(printed) == "ValueError: the cause"
    assert first_line("pip\nERROR: No matching distribution\n") == "ERROR: No matching distribution"
    assert first_line("") == "it printed nothing"
    assert len(first_line("KeyError: " + "x" * 1_000)) == 160


def written(out: Path, outputs: np.ndarray) -> dict[str, Any]:
    """What a contestant leaves."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from tests.bench.beside.workload import outputs_array, slug

    (out / slug("cold")).mkdir(parents=True)
    table = pa.table({"id": np.arange(len(outputs)), "output": outputs_array(outputs)})
    pq.write_table(table, out / slug("cold") / "part.parquet")
    return {
        "seconds": {"cold": 1.0},
        "opening_s": 1.0,
        "first_rows_s": 1.0,
        "few_rows_s": 0.5,
        "driver_mb": {"python": 1.0},
        "version": "1",
    }
