from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from kvspark.demo.nights.nights import run_demo
from kvspark.errors import UsageError
from tests.glosses import short_glosses

pytestmark = [pytest.mark.spark, pytest.mark.redis, pytest.mark.slow]

ROWS = 160
CHANGED = 7
DUPLICATES = 5


def write_nights(folder: Path, *, rows: int) -> Path:
    """Two nights: some texts change, some rows have the same text, a class appears."""
    folder.mkdir()
    before = short_glosses(rows).to_pydict()
    for place in range(DUPLICATES):
        before["text"][20 + place] = before["text"][10]
    after = {name: list(values) for name, values in before.items()}
    for place in range(CHANGED):
        after["text"][place] += " (edited)"
        after["label"][place] = "noun.unheard-of"
    for name, columns in (("2026-01-01", before), ("2026-01-02", after)):
        # A column that the model does not take passes through.
        extra = pa.array([float("nan") if n % 3 else None for n in range(rows)])
        pq.write_table(pa.table({**columns, "extra": extra}), folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def demo(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    """The exit code of a demo on small nights, and where it wrote."""
    folder = tmp_path_factory.mktemp("demo")
    out = folder / "out"
    (out / "night-9").mkdir(parents=True)  # what an earlier demo may have left
    (out / "mine.txt").write_text("not the demo's")
    return run_demo(write_nights(folder / "nights", rows=ROWS), out), out


@pytest.fixture(scope="module")
def nights(demo: tuple[int, Path]) -> list[dict[str, Any]]:
    value = json.loads((demo[1] / "demo.json").read_text())
    assert value["complaints"] == []
    found: list[dict[str, Any]] = value["nights"]
    return found


def computed(night: dict[str, Any]) -> list[int]:
    return [night["stages"][stage]["computed"] for stage in ("features", "trunk", "head")]


def test_the_demo_exits_with_zero(demo: tuple[int, Path]):
    assert demo[0] == 0


def test_the_first_night_computes_every_distinct_text(nights: list[dict[str, Any]]):
    distinct = ROWS - DUPLICATES
    assert computed(nights[0]) == [distinct, distinct, distinct]
    assert nights[0]["stages"]["head"]["duplicates"] == DUPLICATES
    assert nights[0]["new_texts"] == distinct


def test_the_second_night_computes_what_changed(nights: list[dict[str, Any]]):
    assert computed(nights[1]) == [CHANGED, CHANGED, CHANGED]
    assert nights[1]["new_texts"] == CHANGED


def test_the_last_night_computes_the_head_and_leaves_the_trunk_closed(
    nights: list[dict[str, Any]],
):
    assert computed(nights[2]) == [0, 0, ROWS - DUPLICATES]
    assert nights[2]["stages"]["trunk"]["weights_loaded"] == 0
    assert nights[2]["stages"]["trunk"]["hits"] == ROWS - DUPLICATES


def test_the_new_head_is_trained_on_vectors_in_the_cache(demo: tuple[int, Path]):
    first, second = json.loads((demo[1] / "demo.json").read_text())["trainings"]
    assert first["computed"] > 0
    assert second["computed"] == 0
    assert "noun.unheard-of" in second["classes"]
    assert "noun.unheard-of" not in first["classes"]


def test_every_night_equals_its_twin_without_the_cache(nights: list[dict[str, Any]]):
    assert [night["equal_to_cache_off"] for night in nights] == [True, True, True]


def test_every_night_has_its_table_and_its_run_report(nights: list[dict[str, Any]]):
    for night in nights:
        table = pq.read_table(night["output"])
        assert table.num_rows == night["rows"] == ROWS
        assert table.column_names == ["id", "text", "label", "extra", "label_id", "confidence"]
        report = json.loads(Path(night["run_report"]).read_text())
        assert report["rows_out"] == ROWS
        assert 0 <= night["accuracy"] <= 1


def test_the_picture_is_written(demo: tuple[int, Path]):
    assert (demo[1] / "nights.svg").read_text().startswith("<svg")


def test_what_an_earlier_demo_left_is_gone_and_nothing_else(demo: tuple[int, Path]):
    assert not (demo[1] / "night-9").exists()
    assert (demo[1] / "mine.txt").read_text() == "not the demo's"


def test_a_cache_that_cannot_be_kept_there_is_refused_before_anything_is_scored(
    spark: SparkSession, tmp_path: Path
):
    out = tmp_path / "out"
    out.mkdir()
    (out / "cache").write_text("a file where the cache's folder should be")
    with pytest.raises(UsageError, match="cache is not a folder"):
        run_demo(write_nights(tmp_path / "nights", rows=40), out)
    assert not list(out.glob("night-*"))


def test_a_folder_without_nights_is_refused_before_anything_is_made(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no night"):
        run_demo(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
