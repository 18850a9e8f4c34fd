"""What README.md says to type runs as it is pasted: in a clone, and where the wheel is installed.

That the quick start for Python runs where the wheel is installed is the first thing in test_first_hour.py.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from tests.shipped.conftest import ROOT, bare_environment, blocks

NIGHTLY_ROWS = 2_000


def pasted(
    command: list[str], programs: Path, folder: Path, **options: Any
) -> subprocess.CompletedProcess[str]:
    """What came of a command in `folder`, where nothing of this repository is."""
    environment = bare_environment(programs)
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, **options
    )


@pytest.mark.spark
def test_the_python_quick_start_runs_in_a_clone(
    spark: SparkSession, capsys: pytest.CaptureFixture[str]
) -> None:
    code = compile(blocks("README.md", "Quick start: Python", "python")[0], "README.md", "exec")
    exec(code, {"__name__": "__main__"})
    assert re.search(r"\|\s*id\|\s*features\|\s*churn\|", capsys.readouterr().out)


def test_the_wheel_is_what_is_imported_where_it_is_installed(
    installed: Path, tmp_path: Path
) -> None:
    code = "import kvspark, pyspark; print(kvspark.__file__); print(pyspark.__file__)"
    done = pasted([str(installed / "python"), "-c", code], installed, tmp_path)
    own, shared = done.stdout.splitlines()
    assert own.startswith(str(installed.parent))
    assert not shared.startswith(str(installed.parent))


@pytest.fixture(scope="module")
def nightly(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project that the block for spark-submit makes and scores twice, where the wheel is installed."""
    folder = tmp_path_factory.mktemp("home")
    code = blocks("README.md", "Quick start: spark-submit", "bash")[0]
    done = pasted(["bash", "-eux", "-c", code], installed, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "nightly"


@pytest.mark.spark
@pytest.mark.slow
@pytest.mark.redis
def test_the_spark_submit_quick_start_scores_two_nights(nightly: Path) -> None:
    report = json.loads((nightly / "scored/_kvspark/run.json").read_text())
    assert report["run_id"] == "2026-01-02"
    assert report["rows_out"] == NIGHTLY_ROWS
    assert {stage["computed"] for stage in report["stages"].values()} == {0}
    assert report["degraded"] == []


def test_the_install_section_names_the_wheel_and_every_extra(wheel: Path) -> None:
    command = f"pip install --constraint conf/constraints.txt 'dist/{wheel.name}[local]'"
    assert command in blocks("README.md", "Install", "bash")[0]
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    assert command in page
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (extras,) = re.findall(
        r"^\[project\.optional-dependencies\]\n(.*?)^\[", project, re.MULTILINE | re.DOTALL
    )
    named = set(re.findall(r"^(\w+) = \[", extras, re.MULTILINE)) - {"tracking"}
    table = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", table)) >= named
