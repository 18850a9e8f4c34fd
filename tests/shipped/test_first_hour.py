"""A first-time user's hour: the wheel, a table and a module of their own, and a night from each door.

Theirs are the lines in MODULE, NIGHTS, CONF and NOTEBOOK; all others are what README.md says to type.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pyarrow.dataset as ds
import pytest

from tests.shipped.conftest import PATIENCE, bare_environment, blocks

pytestmark = [pytest.mark.spark, pytest.mark.slow, pytest.mark.redis]

ROWS = 5_000

MODULE = """\
class Risk(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    def forward(self, amounts):
        return torch.sigmoid(self.layers(amounts)).squeeze(-1)

kvspark.Model.from_torch(Risk().eval(), {"amounts": torch.zeros(2, 3)}, name="risk").save("risk")
"""

NIGHTS = """\
features = ["float(id % 997) amount", "float(id % 89) fee", "float(id % 7) tax"]
rows = spark.range(5_000).selectExpr("id", *features)
rows.selectExpr("*", "array(amount, fee, tax) amounts").write.parquet("payments")
model, columns = kvspark.Model.load("risk"), {"amounts": "amounts"}
for night in ("first", "second"):
    scored = spark.read.parquet("payments").transform(
        kvspark.score, model, inputs=columns, outputs={"output": "risk"}, cache="embedded:cache")
    scored.write.parquet(night)
"""

CONF = """\
run: {name: risk}
input: {paths: [HOME/payments]}
model: {path: HOME/risk}
inputs: {amounts: amounts}
outputs: {output: risk}
cache: "embedded:HOME/cache"
output: {path: HOME/nightly}
"""

NOTEBOOK = [
    'import kvspark; model = kvspark.Model.load("risk"); print(model.describe())',
    'model.predict({"amounts": [[1.0, 2.0, 3.0]]}, cache="embedded:cache")',
]


def test_the_hour_takes_at_most_30_lines_of_theirs() -> None:
    lines = [*MODULE.splitlines(), *NIGHTS.splitlines(), *CONF.splitlines(), *NOTEBOOK]
    assert len([line for line in lines if line]) <= 30


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hour")


def typed(
    command: list[str], programs: Path, home: Path, **options: Any
) -> subprocess.CompletedProcess[str]:
    """What came of a command; it must not fail."""
    options = {"env": bare_environment(programs), "cwd": home, **options}
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def scored(installed: Path, home: Path) -> str:
    """What Python has printed: the quick start as it is pasted, and their own module behind it."""
    quick_start = blocks("README.md", "Quick start: Python", "python")[0]
    return typed(["python"], installed, home, input=quick_start + MODULE + NIGHTS).stdout


def table(folder: Path) -> Any:
    return ds.dataset(folder, format="parquet").to_table().sort_by("id")


def computed(home: Path) -> set[int]:
    report = json.loads((home / "nightly/_kvspark/run.json").read_text())
    assert report["rows_out"] == ROWS
    assert report["degraded"] == []
    return {stage["computed"] for stage in report["stages"].values()}


def test_python_scores_their_own_module_over_their_own_columns(scored: str, home: Path) -> None:
    assert "churn|" in scored
    assert scored.count("\n|") >= 4  # the header and three rows of the quick start
    first = table(home / "first")
    assert first.num_rows == ROWS
    assert first.column_names == ["id", "amount", "fee", "tax", "amounts", "risk"]
    assert first.equals(table(home / "second"))


def test_spark_submit_and_cron_find_what_python_has_left(
    installed: Path, home: Path, scored: str
) -> None:
    typed(["kvspark", "init", "night"], installed, home)
    (home / "night/conf/score.yaml").write_text(CONF.replace("HOME", str(home)))
    job = ["night/score.py", "night/conf/score.yaml", "--run-id", "2026-01-01"]
    typed(["spark-submit", "--master", "local[*,4]", *job], installed, home)
    computed(home)  # how many depends on what Python could write within its 250 ms
    assert table(home / "nightly").equals(table(home / "first"))

    (line,) = (x for x in (home / "night/crontab").read_text().splitlines() if x[0] != "#")
    command = line.split(None, 5)[5].replace("\\%", "%")
    cron = {"HOME": str(home), "PATH": "/usr/bin:/bin", **PATIENCE}
    told = typed(["/bin/sh", "-c", command], installed, Path("/"), env=cron)
    log = (home / "night/logs/score.log").read_text()
    assert (told.stdout, told.stderr) == ("", ""), log
    assert computed(home) == {0}
    assert re.search(r"run 20\d\d-\d\d-\d\d of risk", log)


def test_a_notebook_shows_the_model_and_a_prediction(
    installed: Path, home: Path, scored: str
) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in NOTEBOOK])
    nbformat.write(notebook, home / "own.ipynb")
    code = "import sys; from nbclient.cli import main; sys.exit(main(['--inplace', 'own.ipynb']))"
    typed([str(installed / "python"), "-c", code], installed, home)
    shown = nbformat.read(home / "own.ipynb", as_version=4).cells
    assert "fingerprint" in shown[0].outputs[0]["text"]
    assert "array([0." in shown[1].outputs[0]["data"]["text/plain"]
