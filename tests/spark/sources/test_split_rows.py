"""Workers that score rows read them too: the rows that Spark reads, with nothing between."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from kvspark.errors import DataError, RowError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.sources.input.located import PLACES
from tests.spark.small_jobs import job, published, write_night
from tests.spark.sources.test_object_parquet import SAME, write
from tests.spark.sources.twins import source

pytestmark = pytest.mark.spark

ROWS = 200
CACHE = {"url": "memory://", "namespace": "split-rows"}


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


@pytest.mark.parametrize("name", [name for name, (_, conf) in SAME.items() if "filter" not in conf])
def test_the_rows_are_those_that_spark_reads(
    spark: SparkSession, tmp_path: Path, name: str
) -> None:
    make, conf = SAME[name]
    make(tmp_path)
    read = source(spark, tmp_path, **conf)
    if name == "a column of folders and files":  # Spark makes numbers of the folders' names
        assert read.splits is None
        return
    assert read.splits is not None
    reader = read.splits.reader
    batches = [batch for split in range(len(reader.splits)) for batch in reader.batches(split)]
    by_workers = pa.Table.from_batches(batches, reader.schema).to_pylist()
    by_spark = read.located().orderBy(*PLACES).drop(*PLACES).toArrow().to_pylist()
    assert list(map(repr, by_workers)) == list(map(repr, by_spark))
    assert read.by_splits().df.schema == read.df.schema


@pytest.mark.parametrize(
    ("conf", "reader"),
    [
        ({}, "workers"),
        ({"input": {"filter": "id >= 0"}}, "spark"),
        ({"inputs": {"x": {"expr": "x"}}}, "spark"),
        ({"output": {"sort_by": ["id"]}}, "spark"),
        ({"output": {"writer": "spark"}}, "spark"),
        ({"input": {"on_bad_row": "null"}}, "workers"),
        ({"cache": CACHE, "plan": {"distinct_first": ["trunk"]}}, "spark"),
        ({"plan": {"distinct_first": ["trunk"]}}, "workers"),
        ({"input": {"on_bad_row": "quarantine"}}, "spark"),
        ({"input": {"on_bad_row": "quarantine", "id": ["id"]}}, "workers"),
    ],
)
def test_workers_read_where_nothing_is_between(
    spark: SparkSession, folder: Path, conf: Mapping[str, Any], reader: str
) -> None:
    night = write_night(folder / "night")
    report = run_score(job(folder, night, **conf), spark=spark)
    assert (report.reader, report.rows_out) == (reader, ROWS)
    run_score(
        job(folder, night, output={"path": str(folder / "other"), "writer": "spark"}), spark=spark
    )
    assert _rows(folder / "out") == _rows(folder / "other")


def _rows(path: Path) -> list[tuple[Any, ...]]:
    table = published(path)
    assert table.num_rows == ROWS
    scores = [bytes(str(row), "utf-8") for row in table["scores"].to_pylist()]
    return list(
        zip(map(int, table["id"].to_pylist()), scores, table["label"].to_pylist(), strict=True)
    )


def test_a_table_of_fewer_row_groups_than_cores_is_spread_by_spark(
    spark: SparkSession, folder: Path
) -> None:
    report = run_score(job(folder, write_night(folder / "night", files=1)), spark=spark)
    assert (report.reader, report.rows_out) == ("spark", ROWS)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("spark.sql.caseSensitive", "true"),
        ("spark.sql.files.ignoreCorruptFiles", "true"),
        ("spark.sql.parquet.datetimeRebaseModeInRead", "LEGACY"),
        ("spark.sql.parquet.int96RebaseModeInRead", "EXCEPTION"),
        ("spark.sql.parquet.int96TimestampConversion", "true"),
    ],
)
def test_spark_reads_under_settings_that_workers_do_not_know(
    spark: SparkSession, tmp_path: Path, setting: str, value: str
) -> None:
    write_night(tmp_path / "night")
    assert source(spark, tmp_path / "night").splits is not None
    with _set(spark, setting, value):
        assert source(spark, tmp_path / "night").splits is None


@contextmanager
def _set(spark: SparkSession, setting: str, value: str) -> Iterator[None]:
    before = spark.conf.get(setting)
    spark.conf.set(setting, value)
    try:
        yield
    finally:
        spark.conf.set(setting, before or "")


def test_spark_reads_days_of_the_old_calendar(spark: SparkSession, tmp_path: Path) -> None:
    table = pa.table({"text": ["a"], "d": [dt.date(1500, 1, 1)]})
    notes = {"org.apache.spark.version": "4.1.0", "org.apache.spark.legacyDateTime": ""}
    write(tmp_path / "1.parquet", table.replace_schema_metadata(notes))
    read = source(spark, tmp_path)
    assert read.splits is None
    assert read.df.count() == 1


def test_a_bad_row_is_named_by_its_file(spark: SparkSession, folder: Path) -> None:
    night = write_night(folder / "night")
    path = night / "1.parquet"
    table = pq.read_table(path)
    x = table["x"].to_pylist()
    x[7] = None
    field = table.schema.field("x")
    bad = table.set_column(table.column_names.index("x"), field, pa.array(x, field.type))
    pq.write_table(bad, path, write_statistics=False, row_group_size=5)
    with pytest.raises(DataError, match="1 null among"):
        run_score(job(folder, night), spark=spark)
    report = run_score(job(folder, night, input={"on_bad_row": "null"}), spark=spark)
    assert (report.reader, report.stats.bad_row_count) == ("workers", 1)


def test_a_row_on_which_the_model_fails_is_named_by_its_file(
    spark: SparkSession, folder: Path
) -> None:
    night = write_night(folder / "night", rows=2_000)
    path = night / "1.parquet"
    table = pq.read_table(path)
    x = table["x"].to_pylist()
    x[700] = x[700][:-1]  # behind the rows that the preflight sees
    pq.write_table(table.set_column(1, "x", pa.array(x, table["x"].type)), path, row_group_size=50)
    with pytest.raises(RowError, match=r"night/1\.parquet row 700: .*nothing was published"):
        run_score(job(folder, night), spark=spark)


def test_a_page_that_is_damaged_fails_the_run_and_is_no_wrong_row(
    spark: SparkSession, folder: Path
) -> None:
    night = write_night(folder / "night")
    path = night / "1.parquet"
    pq.write_table(
        pq.read_table(path),
        path,
        compression="none",
        use_dictionary=False,
        write_page_checksum=True,
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"1\.parquet cannot be read to its end"):
        run_score(job(folder, night), spark=spark)
    assert not (folder / "out").exists()


@pytest.mark.parametrize(("setting", "most"), [("7", 7), ("0", ROWS // 2)])
def test_a_batch_has_as_many_rows_as_spark_would_give_it(
    spark: SparkSession, tmp_path: Path, setting: str, most: int
) -> None:
    write_night(tmp_path / "night")
    with _set(spark, "spark.sql.execution.arrow.maxRecordsPerBatch", setting):
        splits = source(spark, tmp_path / "night").splits
    assert splits is not None
    assert max(batch.num_rows for batch in splits.reader.batches(0)) == most
