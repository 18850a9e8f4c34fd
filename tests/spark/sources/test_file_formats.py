"""Inputs that Spark reads in other formats than Parquet, and queries: the same rows and outputs, or one line of refusal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from deltalake import write_deltalake
from pyarrow import orc
from pyspark.sql import SparkSession

from kvspark.cli.app import run as command
from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, KvsparkError, SchemaError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.spark.sources.find_input import find_input
from kvspark.spark.sources.input.source import Source, read_source
from tests.spark.small_jobs import published
from tests.spark.sources.nights import ROWS, config, empty_is_null, inputs, night, write

pytestmark = pytest.mark.spark


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


@pytest.mark.parametrize("format_", ["csv", "json", "orc"])
def test_a_job_publishes_what_it_publishes_of_parquet(
    spark: SparkSession, folder: Path, format_: str
) -> None:
    rows = night() if format_ != "csv" else empty_is_null(night())
    run_score(config(folder, inputs(write(rows, folder / "p", "parquet"), "parquet")), spark=spark)
    expected = published(folder / "out")
    there = write(rows, folder / "n", format_)
    report = run_score(config(folder, inputs(there, format_)), spark=spark)
    assert published(folder / "out").equals(expected)
    assert (report.rows_in, report.input_files) == (ROWS, 2)
    assert report.input_digest


def test_a_query_is_an_input(spark: SparkSession, folder: Path) -> None:
    there = write(night(), folder / "p", "parquet")
    only = inputs(there, "parquet", filter="id % 3 = 0")
    run_score(config(folder, only), spark=spark)
    expected = published(folder / "out")
    sql = f"WITH n AS (SELECT * FROM parquet.`{there}`) SELECT * FROM n WHERE id % 3 = 0 -- some;"
    report = run_score(config(folder, {"sql": sql}), spark=spark)
    assert published(folder / "out").equals(expected)
    assert report.inputs == (sql,)
    assert (report.rows_in, report.input_files) == (ROWS // 3, 2)
    assert report.input_digest


@pytest.mark.parametrize("format_", ["csv", "json", "orc", "sql"])
def test_the_other_commands_read_it_too(
    spark: SparkSession, folder: Path, format_: str, capsys: pytest.CaptureFixture[str]
) -> None:
    there = write(night(), folder / "n", "parquet" if format_ == "sql" else format_)
    sql = {"sql": f"SELECT * FROM parquet.`{there}`"}
    asked = sql if format_ == "sql" else inputs(there, format_)
    cache = {"url": f"embedded:{folder / 'store'}", "namespace": "small"}
    made = config(folder, asked, cache=cache).model_dump(mode="json", exclude_unset=True)
    (folder / "job.yaml").write_text(yaml.safe_dump(made))
    for name in ("check", "plan"):
        assert command([name, str(folder / "job.yaml")]) == 0
        assert "60 rows" in capsys.readouterr().out


def test_partitions_are_folders_and_their_values_texts(spark: SparkSession, folder: Path) -> None:
    for day in ("007", "008"):
        write(empty_is_null(night()), folder / "n" / f"day={day}", "csv")
    asked = inputs(folder / "n", "csv", partitions={"day": "007"})
    report = run_score(config(folder, asked), spark=spark)
    assert (report.rows_in, report.input_files) == (ROWS, 2)
    assert set(published(folder / "out")["day"].to_pylist()) == {"007"}


SECRET = "words-of-a-row"


@pytest.mark.parametrize(
    ("format_", "text", "options", "refusal"),
    [
        ("csv", "id,text\n1,a\n2\n", {}, (DataError, r"x\.csv: 1 line of it cannot be read as")),
        ("csv", f"id,text\n1,a,{SECRET}\n", {}, (DataError, "1 line of it cannot be read as")),
        ("csv", f"id,text\n{SECRET},a\n", {}, (DataError, r"\(1 line of 1 in all\)")),
        ("csv", f"{SECRET},id\n1,a\n", {}, (SchemaError, "first line of a CSV file does not name")),
        ("csv", f'id,text\n1,"a"{SECRET}"\n', {}, (SchemaError, "a quote inside of a text")),
        ("csv", "id,text\n1,a\n", {"header": False}, (DataError, "1 line of it cannot be read as")),
        ("json", '{"id": 1, "text": "a"}\n{"id": 2', {}, (DataError, r"x\.json: 1 line of it")),
        ("json", f'{{"id": "{SECRET}", "text": "a"}}\n', {}, (DataError, "1 line of it")),
        ("json", '{"id": 1.5, "text": "a"}\n', {}, (DataError, "1 line of it")),
        (
            "csv",
            f'id,text\n1,"a\n2,{SECRET}\n',
            {},
            (DataError, r"x\.csv: a text in quotes does not end"),
        ),
        ("csv", f'id,text\n1,"{SECRET}', {}, (DataError, "a text in quotes does not end")),
        (
            "json",
            f'{{"id": 1, "text": "a"}} {{"id": 2, "text": "{SECRET}"}}\n',
            {},
            (DataError, r"x\.json: 1 line of it cannot be read as one object"),
        ),
        ("json", '{"id": 1, "text": "a"}x\n', {}, (DataError, "1 line of it")),
        ("json", '{"id": 1}\n', {}, (DataError, "column 'text': 1 null among 1 row")),
    ],
)
def test_a_line_that_is_no_row_fails_and_is_not_quoted(
    spark: SparkSession,
    tmp_path: Path,
    format_: str,
    text: str,
    options: dict[str, Any],
    refusal: tuple[type[KvsparkError], str],
) -> None:
    error, message = refusal
    (tmp_path / f"x.{format_}").write_text(text)
    with pytest.raises(error, match=message) as told:
        read(spark, tmp_path, format_, options=options)
    assert SECRET not in str(told.value)
    assert "\n" not in str(told.value)
    assert "nothing was written" in str(told.value)


def read(spark: SparkSession, folder: Path, format_: str, **more: Any) -> pa.Table:
    """What a job reads of columns `id` and `text`, the second of which a model takes."""
    columns = {"columns": {"id": "bigint", "text": "string"}} if format_ != "orc" else {}
    asked = {"paths": [str(folder)], "format": format_, **columns, **more}
    return source(spark, asked).df.toArrow()


def source(spark: SparkSession, asked: Mapping[str, Any]) -> Source:
    """The rows of a conf's `input` whose column `text` a model takes."""
    made = InputConfig.checked(**asked)
    found = find_input(made, settings={}, columns=["text"])
    return read_source(spark, made, found, columns=["text"])


def test_a_type_that_spark_has_not_is_refused_in_its_words_without_its_codes(
    spark: SparkSession, tmp_path: Path
) -> None:
    (tmp_path / "x.csv").write_text("id,text\n1,a\n")
    with pytest.raises(UsageError, match='Unsupported data type "FLAOT"; nothing was') as told:
        read(spark, tmp_path, "csv", columns={"id": "flaot", "text": "string"})
    assert "SQLSTATE" not in str(told.value)
    assert "[" not in str(told.value)


def test_a_text_may_have_line_ends_and_quotes(spark: SparkSession, tmp_path: Path) -> None:
    text = 'id,text\n1,"a\n""b"", c"\n2,\\d\n3,"\\"\n'
    (tmp_path / "x.csv").write_text(text)
    assert read(spark, tmp_path, "csv")["text"].to_pylist() == ['a\n"b", c', "\\d", "\\"]


def test_bytes_that_are_no_text_are_refused(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("id,text\n1,ü\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"x\.csv: it is not written in utf-8"):
        read(spark, tmp_path, "csv")


def test_words_of_the_conf_say_how_a_file_is_written(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes("1;ü\n2;NA\n".encode("latin-1"))
    options = {"header": False, "sep": ";", "nullValue": "NA", "encoding": "ISO-8859-1"}
    found = read(spark, tmp_path, "csv", options=options, on_bad_row="null")
    assert found["text"].to_pylist() == ["ü", None]


def test_a_file_of_zero_bytes_has_no_rows(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "x.json").touch()
    assert read(spark, tmp_path, "json").num_rows == 0
    with pytest.raises(DataError, match=r"zero bytes and input\.strict_files is on"):
        read(spark, tmp_path, "json", strict_files=True)


def test_a_text_file_that_changes_during_the_run_is_noticed(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"id": 1, "text": "a"}\n')
    asked = {"format": "json", "columns": {"id": "bigint", "text": "string"}}
    rows = [
        source(spark, {"paths": [str(tmp_path)], **asked}),
        source(spark, {"sql": f"SELECT * FROM json.`{tmp_path}`"}),
    ]
    path.write_text('{"id": 1, "text": "b"}\n{"id": 2, "text": "b"}\n')
    for each in rows:
        assert each.found is not None
        with pytest.raises(DataError, match=r"x\.json changed while the run read it"):
            each.found.check_unchanged()


def test_orc_files_must_agree_and_be_whole(spark: SparkSession, tmp_path: Path) -> None:
    orc.write_table(pa.table({"id": [1], "text": ["a"]}), tmp_path / "1.orc")
    orc.write_table(pa.table({"id": ["1"], "text": ["a"]}), tmp_path / "2.orc")
    with pytest.raises(SchemaError, match=r"do not agree .* id int64.* id string"):
        read(spark, tmp_path, "orc")
    data = (tmp_path / "1.orc").read_bytes()
    (tmp_path / "2.orc").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"2\.orc is no readable ORC file"):
        read(spark, tmp_path, "orc")


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        ("DROP TABLE nights", UsageError, "no query that Spark can answer"),
        ("SELECT 1) AS a; DROP TABLE nights; SELECT (1", UsageError, "no query that Spark"),
        ("SELECT rand() AS text", UsageError, "may give other rows the next time .rand"),
        ("SELECT current_date() AS text", UsageError, "may give other rows"),
        (
            "SELECT 'a' AS text FROM (SELECT * FROM range(9)) TABLESAMPLE (50 PERCENT)",
            UsageError,
            "TABLESAMPLE is drawn by chance",
        ),
        ("SELECT 'a' AS text /* b", UsageError, r"Spark can answer: [^;(]*\w[^;(]*; nothing"),
        ("SELECT * FROM VALUES ('a') AS t(text) WHERE date'today' > '1'", UsageError, "other rows"),
        ("SELECT 1 AS text, 2 AS text", SchemaError, "has column 'text' twice"),
        ("SELECT 1 AS texts", SchemaError, "no column 'text'; did you mean 'texts'"),
        (
            "SELECT * FROM nights_that_are_not",
            UsageError,
            r"`nights_that_are_not` cannot be found\.; nothing",
        ),
    ],
)
def test_a_query_that_is_none_is_refused(
    spark: SparkSession, sql: str, error: type[KvsparkError], message: str
) -> None:
    with pytest.raises(error, match=message) as told:
        source(spark, {"sql": sql})
    assert "\n" not in str(told.value)


def test_a_value_that_a_query_cannot_make_is_told_of_the_query(
    spark: SparkSession, folder: Path
) -> None:
    there = write(night(), folder / "p", "parquet")
    sql = f"SELECT *, CAST('a name' || id AS INT) AS made FROM parquet.`{there}`"
    with pytest.raises(
        DataError, match=r"^input\.sql has no value for a row .CAST_INVALID"
    ) as told:
        run_score(config(folder, {"sql": sql}), spark=spark)
    assert "a name" not in str(told.value)


def test_a_query_does_not_read_what_the_run_replaces(
    spark: SparkSession, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = write(night(), folder / "out", "parquet")
    asked = config(folder, {"sql": f"SELECT * FROM parquet.`{there}`"}, output={"overwrite": True})
    with pytest.raises(UsageError, match="overlap: publishing would replace the input"):
        run_score(asked, spark=spark)
    assert len([*there.glob("*.parquet")]) == 2
    (folder / "job.yaml").write_text(asked.model_dump_json(exclude_unset=True))
    assert command(["check", str(folder / "job.yaml")]) == 64
    assert "overlap: publishing would replace the input" in capsys.readouterr().out


def test_a_query_does_not_read_the_files_of_a_table_with_a_log(
    spark: SparkSession, tmp_path: Path
) -> None:
    write_deltalake(str(tmp_path / "t"), pa.table({"text": ["deleted"]}))
    write_deltalake(str(tmp_path / "t"), pa.table({"text": ["new"]}), mode="overwrite")
    with pytest.raises(DataError, match=r"files of a Delta Lake table .*deleted rows would come"):
        source(spark, {"sql": f"SELECT * FROM parquet.`{tmp_path / 't'}`"})


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, r"name the files in input\.paths, or a query in input\.sql"),
        ({"sql": "SELECT 1", "paths": ["a"]}, r"input\.paths does not go with input\.sql"),
        ({"sql": "SELECT 1", "format": "csv"}, r"input\.format does not go with input\.sql"),
        ({"paths": ["a"], "format": "csv"}, "does not say what its columns are"),
        (
            {"paths": ["a"], "columns": {"a": "int"}},
            r"input\.columns is of csv and json, and",
        ),
        (
            {"paths": ["a"], "format": "orc", "merge_schema": True},
            "merge_schema is of parquet, and",
        ),
        (
            {"paths": ["a"], "format": "csv", "columns": {"a": "int"}, "options": {"mode": "x"}},
            r"input\.options has 'mode', which is none of a file of format: csv",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        InputConfig.checked(**asked)


@pytest.mark.parametrize("asked", [{"paths": ["a"]}, {"sql": "SELECT 1"}])
def test_a_conf_that_is_written_out_whole_is_a_conf(asked: dict[str, Any]) -> None:
    made = InputConfig.checked(**asked)
    assert InputConfig.checked(**made.model_dump()) == made


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"id": "bigint", "text": "strin"}, UsageError, r"input\.columns: .*STRIN"),
        ({"text": "string, more int"}, UsageError, "a type is more than one type"),
        ({"id": "bigint", "texts": "string"}, SchemaError, "did you mean 'texts'"),
    ],
)
def test_columns_that_are_none_are_refused(
    spark: SparkSession,
    tmp_path: Path,
    columns: dict[str, str],
    error: type[KvsparkError],
    message: str,
) -> None:
    (tmp_path / "x.csv").write_text("id,text\n1,a\n")
    with pytest.raises(error, match=message) as told:
        read(spark, tmp_path, "csv", columns=columns)
    assert "\n" not in str(told.value)


def test_bad_rows_are_named_by_a_column(spark: SparkSession, folder: Path) -> None:
    rows = night()
    gone = [None if row == 3 else value for row, value in enumerate(rows["x2"].to_pylist())]
    rows = rows.set_column(4, "x2", pa.array(gone, pa.float32()))
    there = inputs(write(rows, folder / "n", "json"), "json", on_bad_row="quarantine")
    with pytest.raises(UsageError, match=r"no file and no place .* in input\.id"):
        run_score(config(folder, there), spark=spark)
    report = run_score(config(folder, {**there, "id": "id"}), spark=spark)
    assert (report.rows_out, report.rows_quarantined) == (ROWS - 1, 1)
