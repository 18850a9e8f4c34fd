"""Jobs with `output.mode: merge`: the rows of a night take the place of those with the same ids."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from kvspark.config.job import JobConfig
from kvspark.errors import DataError, KvsparkError, OutputError, UsageError
from kvspark.fault import FAULT_ONCE_ENV, FAULT_POINT_ENV
from kvspark.spark.check.check import check_job
from kvspark.spark.jobs.job import run_score
from kvspark.spark.jobs.rollback import run_rollback
from tests.spark.conftest import features
from tests.spark.small_jobs import job, published
from tests.table.publish.merging import needless

pytestmark = pytest.mark.spark


def rows(ids: list[int], seed: int = 3) -> pa.Table:
    x = features(200, seed=seed)[ids]
    return pa.table({"id": ids, "x": pa.array(list(x), pa.list_(pa.float32()))})


def written(folder: Path, name: str, table: pa.Table) -> Path:
    (folder / name).mkdir()
    for number, part in enumerate(np.array_split(np.arange(table.num_rows), 2)):
        pq.write_table(table.take(part), folder / name / f"{number}.parquet")
    return folder / name


def config(folder: Path, night: Path, run_id: str, **more: Any) -> JobConfig:
    output = {
        "format": "delta",
        "path": str(folder / "scores"),
        "mode": "merge",
        "merge_by": "id",
        "keep": 3,
    }
    output |= more.pop("output", {})
    return job(folder, night, run={"id": run_id}, output=output, **more)


def scored(folder: Path) -> pa.Table:
    found = DeltaTable(str(folder / "scores")).to_pyarrow_table().sort_by("id")
    return pa.table(found)


def from_scratch(spark: SparkSession, folder: Path, table: pa.Table) -> pa.Table:
    """What one run of `table` alone publishes, bit for bit."""
    name = f"whole{len([*folder.glob('whole*')])}"
    run_score(
        job(folder, written(folder, name, table), output={"path": str(folder / f"{name}-out")}),
        spark=spark,
    )
    return published(folder / f"{name}-out").cast(scored(folder).schema)


def test_a_night_of_changed_rows_replaces_these_and_a_bad_one_leaves_none(
    spark: SparkSession, folder: Path
) -> None:
    first, changed = rows([*range(120)]), rows([3, 70, 150], seed=9)
    run_score(config(folder, written(folder, "first", first), "a"), spark=spark)
    bad = pa.table({"id": [5], "x": pa.nulls(1, changed["x"].type)})
    night = written(folder, "second", pa.concat_tables([changed, bad]))
    asked = {"on_bad_row": "quarantine", "id": "id"}
    conf = config(folder, night, "b", input=asked)
    for _ in range(2):
        report = run_score(conf, spark=spark)
        kept = first.filter(pa.array(n not in {3, 5, 70} for n in range(120)))
        expected = from_scratch(spark, folder, pa.concat_tables([kept, changed]))
        assert scored(folder).equals(expected)
        assert (report.rows_in, report.rows_out, report.rows_quarantined) == (4, 3, 1)
    # When it is repeated, the old row of the bad one is gone already.
    assert (report.rows_replaced, report.rows_removed) == (3, 0)
    run_rollback(conf)
    run_rollback(conf, to="a")
    assert scored(folder).equals(from_scratch(spark, folder, first))


def test_rows_that_are_not_known_again_fail_the_run(spark: SparkSession, folder: Path) -> None:
    run_score(config(folder, written(folder, "first", rows([1, 2])), "a"), spark=spark)
    before = scored(folder)
    twice = written(folder, "twice", rows([2, 3, 3]))
    with pytest.raises(DataError, match=r"is not unique in the input: 1 row more.*nothing was pub"):
        run_score(config(folder, twice, "b"), spark=spark)
    assert scored(folder).equals(before)
    for name, message in (
        ("x", r"'x' of type array<float>"),
        ("other", "there is no column 'other'"),
    ):
        conf = config(folder, twice, "b", output={"merge_by": name, "path": str(folder / "new")})
        with pytest.raises(UsageError, match=rf"output\.merge_by.*{message}"):
            run_score(conf, spark=spark)
        (found,) = [each.error for each in check_job(conf, opens_session=False) if each.error]
        assert isinstance(found, UsageError)
        assert message in str(found)


@contextmanager
def killing(spark: SparkSession, **values: str) -> Iterator[None]:
    """Workers that get to a fault point are killed."""
    environment = spark.sparkContext.environment
    environment.update(values)
    try:
        yield
    finally:
        for name in values:
            environment.pop(name)


@pytest.mark.slow
def test_workers_that_are_killed_while_they_rewrite_leave_the_old_or_the_new_table(
    spark: SparkSession, folder: Path, tmp_path: Path
) -> None:
    first, changed = rows([*range(60)]), rows([3, 50], seed=9)
    run_score(config(folder, written(folder, "first", first), "a"), spark=spark)
    before, conf = scored(folder), config(folder, written(folder, "second", changed), "b")
    died = pytest.raises(KvsparkError, match=r"died in every attempt \(4\)")
    with killing(spark, **{FAULT_POINT_ENV: "rewritten"}), died:
        run_score(conf, spark=spark)
    assert scored(folder).equals(before)
    once = tmp_path / "once"
    with killing(spark, **{FAULT_POINT_ENV: "rewritten", FAULT_ONCE_ENV: str(once)}):
        report = run_score(conf, spark=spark)
    assert once.exists()  # a worker was killed
    assert (report.rows_replaced, report.rows_removed) == (2, 0)
    kept = first.filter(pa.array(n not in {3, 50} for n in range(60)))
    assert scored(folder).equals(from_scratch(spark, folder, pa.concat_tables([kept, changed])))
    assert not needless(folder / "scores")
    damaged, *_ = (folder / "scores").glob("runs/*/merged-*.parquet")
    damaged.write_bytes(b"PAR1")
    again = config(folder, written(folder, "third", rows([1, 2, 40, 41])), "c")
    with pytest.raises(OutputError, match=r"output file .*nothing was published"):
        run_score(again, spark=spark)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"output": {"merge_by": []}}, r"mode is merge and output\.merge_by names no column"),
        ({"output": {"mode": "append"}}, r"mode is append and output\.merge_by names id"),
        ({"output": {"format": "parquet"}}, r"format is parquet, of which single rows are not"),
        ({"output": {"merge_by": ["id", "id"]}}, "names a column twice"),
        ({"input": {"on_bad_row": "quarantine"}}, r"input\.id does not name id of output\.merge"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    folder: Path, sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        config(folder, folder, "a", **sections)
