"""What the workers write is what Spark writes, for each reader: columns, types, nullability, metadata, values."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.spark.columns.column_map import column_map
from kvspark.spark.publishing.written_rows import write_rows
from kvspark.spark.scoring.bad_rows import NoBadRows
from kvspark.spark.scoring.score import ScoredTable, scored_table, task_spec
from kvspark.spark.tables.footers import read_footers
from tests.spark.echo import echo
from tests.spark.small_jobs import job

pytestmark = pytest.mark.spark

KINDS = {
    "truth": "id % 2 = 0",
    "tiny": "cast(id AS tinyint)",
    "small": "cast(id AS smallint)",
    "whole": "cast(id AS int)",
    "long": "9007199254740993 + id",
    "single": "array(float('nan'), float('-0.0'), float('inf'), float(1.5))[id % 4]",
    "double": "array(double('nan'), double('-0.0'), double('1e-300'))[id % 3]",
    "short_decimal": "cast(id / 8 AS decimal(9, 2))",
    "decimal": "cast(-id / 8 AS decimal(18, 4))",
    "long_decimal": "cast('12345678901234567890.0123456789' AS decimal(38, 10)) + id",
    "text": "array('', 'é 😀', 'a')[id % 3]",
    "bytes": "unhex(hex(id))",
    "day": "date_add(date'1500-02-28', cast(id AS int) * 40000)",
    "moment": "timestamp'1500-01-01 00:00:00.123456' + make_interval(100 * id)",
    "local": "timestamp_ntz'2026-03-29 02:30:00.000001' + make_interval(0, id)",
    "months": "make_ym_interval(id, 1)",
    "duration": "make_dt_interval(id, 1, 2, 3.5)",
    "collated": "concat('x', id) COLLATE UTF8_LCASE",
    "padded": "cast('ab' AS char(5))",
    "array": "array(id, null, 3)",
    "closed_array": "array(cast(id AS float), 2f)",
    "nested": "array(array(id), array(), null)",
    "struct": "if(id % 3 = 0, null, named_struct('a', id, 'b', array(named_struct('c', 'x', 'd', cast(null AS int)))))",
    "map": "map('k', id, 'l', null)",
    "map_of_structs": "map(id, named_struct('a', cast(id AS decimal(9, 2)), 'b', date'2026-01-01'))",
    "months_inside": "array(named_struct('m', if(id = 5, null, make_ym_interval(1, id))), null)",
    "a dotless, odd; name=(x)": "id",
}
"""Spark SQL of `id` for each type that Spark writes to Parquet and that Arrow has a form for."""
FOLDERS = {
    "kind": "array('a b/c=%', '', null, '10:30', 'é%C3%A9', 'x[1]{2}*?', '\"q\"', '\\t', '=', '.')[id % 10]",
    "number": "cast(id % 3 - 1 AS smallint)",
    "yes": "if(id % 4 = 3, null, id % 4 = 0)",
    "when": "date_add(date'-0044-03-15', cast(id AS int) * 1500000)",
}
ROWS = 40


@pytest.fixture(autouse=True)
def same_times(spark: SparkSession) -> Iterator[None]:
    """Spark's writer without INT96, which it is asked for by default and Arrow's never writes."""
    spark.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    yield
    spark.conf.unset("spark.sql.parquet.outputTimestampType")


def rows_of(spark: SparkSession, kinds: dict[str, str], rows: int = ROWS) -> DataFrame:
    """The columns `id`, `amounts` and `kinds`; each column with a null in it where it may have one."""
    columns = [F.expr(sql).alias(name) for name, sql in kinds.items()]
    nullable = [F.when(F.col("id") != 7, c).alias(n) for n, c in zip(kinds, columns, strict=True)]
    df = spark.range(0, rows, 1, 4)
    amounts = F.array(*[F.col("id").cast("float")] * 3).alias("amounts")
    return df.select("id", amounts, *columns[::2], *nullable[1::2])


def table_of(df: DataFrame) -> ScoredTable:
    model = echo()
    spec = task_spec(df.sparkSession, compiled_plan(model.bundle, None), None)
    columns = column_map(model.bundle, None, None)
    return scored_table(df, columns, model.bundle, spec, None, NoBadRows())


def written(df: DataFrame, folder: Path, **output: Any) -> dict[str, Path]:
    """The same table by each writer."""
    for writer in ("spark", "arrow"):
        config = job(
            folder, folder, output={"path": str(folder / "out"), "writer": writer, **output}
        )
        assert write_rows(table_of(df), folder / f"{writer}-12345678", config) == writer
    return {writer: folder / f"{writer}-12345678" for writer in ("spark", "arrow")}


def values(df: DataFrame) -> list[str]:
    """What is in each row, down to NaN and the sign of zero."""
    texts = [
        F.col(f"`{f.name}`").cast("string")
        if f.dataType.simpleString().startswith(("interval", "array<struct<m", "date"))
        else F.col(f"`{f.name}`")
        for f in df.schema.fields
    ]
    return sorted(repr(row) for row in df.select(texts).collect())


def files(path: Path) -> list[Path]:
    return sorted(path.rglob("part-*.parquet"))


def test_each_type_is_written_as_spark_writes_it(spark: SparkSession, tmp_path: Path) -> None:
    df = rows_of(spark, KINDS)
    out = written(df, tmp_path)
    by_spark, by_arrow = (spark.read.parquet(str(out[writer])) for writer in ("spark", "arrow"))
    assert by_arrow.schema == by_spark.schema
    assert values(by_arrow) == values(by_spark)
    assert len(values(by_arrow)) == ROWS
    old, new = (read_footers(files(out[writer]))[0] for writer in ("spark", "arrow"))
    assert new.columns == old.columns
    assert new.spark_schema == old.spark_schema
    metadata = [pq.read_metadata(files(out[writer])[0]) for writer in ("spark", "arrow")]
    assert metadata[0].metadata == metadata[1].metadata
    trees = [str(each.schema).split("\n", 2)[2] for each in metadata]
    assert trees[0] == trees[1]  # names, repetition, physical and logical types, all the way down


def test_other_readers_find_the_same(spark: SparkSession, tmp_path: Path) -> None:
    out = written(rows_of(spark, KINDS), tmp_path)
    tables = [pq.read_table(path) for path in out.values()]
    assert tables[0].schema.equals(tables[1].schema)
    frames = [table.sort_by("id").to_pandas() for table in tables]
    assert frames[0].dtypes.equals(frames[1].dtypes)
    assert repr(frames[0].to_dict("records")) == repr(frames[1].to_dict("records"))
    with duckdb.connect() as connection:
        told = [
            connection.sql(f"SELECT * FROM read_parquet('{path}/*.parquet') ORDER BY id")
            for path in out.values()
        ]
        assert told[0].types == told[1].types
        assert repr(told[0].fetchall()) == repr(told[1].fetchall())


def test_folders_are_named_as_spark_names_them(spark: SparkSession, tmp_path: Path) -> None:
    df = rows_of(spark, FOLDERS)
    for by in (["kind"], ["when"], ["number", "yes", "kind"]):
        folder = tmp_path / "-".join(by)
        out = written(df, folder, partition_by=by)
        names = [
            {file.parent.relative_to(path).as_posix() for file in files(path)}
            for path in out.values()
        ]
        assert names[0] == names[1]
        found = [spark.read.parquet(str(path)) for path in out.values()]
        assert found[0].schema == found[1].schema
        assert values(found[0]) == values(found[1])
        old, new = (read_footers(files(path))[0] for path in out.values())
        assert (new.columns, new.spark_schema) == (old.columns, old.spark_schema)


@pytest.mark.parametrize("by", [[], ["kind"]])
def test_a_table_without_rows_has_one_file(
    spark: SparkSession, tmp_path: Path, by: list[str]
) -> None:
    df = rows_of(spark, {**KINDS, **FOLDERS}).where("id < 0")
    out = written(df, tmp_path, partition_by=by)
    assert [len(files(path)) for path in out.values()] == [1, 1]
    found = [spark.read.parquet(str(path)) for path in out.values()]
    assert found[0].schema == found[1].schema
    assert found[1].count() == 0


def test_the_columns_keep_their_metadata_and_field_ids(spark: SparkSession, tmp_path: Path) -> None:
    df = rows_of(spark, {"text": "'a'"})
    field = F.col("text").alias("text", metadata={"comment": "é", "parquet.field.id": 7})
    out = written(df.select("id", "amounts", field), tmp_path)
    found = [spark.read.parquet(str(path)).schema["text"] for path in out.values()]
    assert found[0] == found[1]
    assert found[1].metadata == {"comment": "é", "parquet.field.id": 7}
    for path in out.values():
        assert pq.read_schema(files(path)[0]).field("text").metadata == {b"PARQUET:field_id": b"7"}


@pytest.mark.parametrize(
    ("sql", "by", "why"),
    [
        ("parse_json('[1]')", [], "column 'odd' is variant"),
        ("null", [], "column 'odd' is void"),
        ("array()", [], "column 'odd' is array<void>"),
        ("double(id)", ["odd"], "output.partition_by names 'odd' of type double"),
        ("timestamp'2026-01-01'", ["odd"], "output.partition_by names 'odd' of type timestamp"),
    ],
)
def test_what_only_spark_writes_is_left_to_it_and_told(
    spark: SparkSession,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    sql: str,
    by: list[str],
    why: str,
) -> None:
    df = rows_of(spark, {"odd": sql})
    output = {"path": str(tmp_path / "out"), "writer": "arrow", "partition_by": by}
    config = job(tmp_path, tmp_path, output=output)
    with caplog.at_level(logging.INFO, "kvspark"):
        who = write_rows(table_of(df), tmp_path / "staged-12345678", config)
    assert who.startswith(f"spark: {why}")
    assert [why in line for line in caplog.messages] == [True]
    assert spark.read.parquet(str(tmp_path / "staged-12345678")).count() == ROWS


def test_a_setting_that_asks_for_another_form_leaves_it_to_spark(
    spark: SparkSession, tmp_path: Path
) -> None:
    spark.conf.set("spark.sql.parquet.writeLegacyFormat", "true")
    try:
        config = job(tmp_path, tmp_path, output={"path": str(tmp_path / "o"), "writer": "arrow"})
        who = write_rows(table_of(rows_of(spark, {})), tmp_path / "staged-12345678", config)
    finally:
        spark.conf.unset("spark.sql.parquet.writeLegacyFormat")
    assert who == "spark: spark.sql.parquet.writeLegacyFormat is true"
