"""Parquet in an object store is read as on a disk: types, values, places, refusals, and the same outputs of a job."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, SchemaError, UsageError
from kvspark.spark.sources.find_input import find_input
from tests.object_server import S3Address
from tests.spark.small_jobs import job
from tests.spark.sources.every_type import every_type
from tests.spark.sources.twins import (
    bits,
    found,
    remote_folder,
    rows_of,
    source,
    upload,
    workers_reach,
)

pytestmark = pytest.mark.spark

# Parquet has times without a zone.
TIMES = [dt.datetime(1, 1, 1), dt.datetime(2262, 4, 12), dt.datetime(9999, 12, 31), None]  # noqa: DTZ001
DAY = dt.datetime(2026, 1, 1, 5)  # noqa: DTZ001
ROWS = {"id": [1, 2, 3], "text": ["a", "b", "c"]}


@pytest.fixture
def url(s3: S3Address, spark: SparkSession) -> Iterator[str]:
    with workers_reach(s3, spark) as url:
        yield f"{url}/t"


def write(path: Path, columns: Any = ROWS, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    pq.write_table(table, path, **options)


def many(folder: Path) -> None:
    """Files of several writers, which agree on their columns."""
    coded = pa.array([["a", "b"], None, ["c"]], pa.list_(pa.dictionary(pa.int8(), pa.string())))
    table = every_type().append_column("coded", coded)
    write(folder / "a.parquet", table, row_group_size=2)
    pages = {"data_page_version": "2.0", "write_page_checksum": True}
    write(folder / "b.parquet", table, row_group_size=2, use_dictionary=False, **pages)
    write(folder / "c.parquet", table.slice(0, 0))
    write(folder / "d.parquet", table, store_schema=False)
    (folder / "_SUCCESS").touch()
    (folder / "e.parquet").touch()


def old_times(folder: Path) -> None:
    times = TIMES
    table = pa.table({"t": pa.array(times, pa.timestamp("us"))})
    write(folder / "a.parquet", table, use_deprecated_int96_timestamps=True)


def partitions(folder: Path) -> None:
    write(folder / "dt=007/lang=e%2Fn/1.parquet")
    write(folder / "dt=008/lang=__HIVE_DEFAULT_PARTITION__/2.parquet")
    write(folder / "dt=008/lang=é/3.parquet", {"id": [9], "text": pa.array([None], pa.string())})


def inside_too(folder: Path) -> None:
    """A column of folder names that is in the files as well, with other values."""
    write(folder / "id=7/1.parquet")
    write(folder / "id=08/1.parquet")


def widened(folder: Path) -> None:
    struct = pa.struct({"x": pa.int32()})
    more = pa.struct({"y": pa.string(), "x": pa.int64()})
    write(
        folder / "1.parquet", {"id": pa.array([1], pa.int32()), "s": pa.array([{"x": 1}], struct)}
    )
    write(folder / "2.parquet", {"s": pa.array([{"y": "a", "x": 2}, None], more), "id": [2, 3]})
    write(folder / "3.parquet", {"id": [4], "d": [dt.date(2026, 1, 1)]})
    write(folder / "4.parquet", {"d": [DAY]})


def colons(folder: Path) -> None:
    write(folder / "dt=1" / "10:30.parquet")


SAME: Mapping[str, tuple[Callable[[Path], None], Mapping[str, Any]]] = {
    "every type": (many, {}),
    "INT96": (old_times, {}),
    "partitions": (partitions, {}),
    "some partitions": (partitions, {"partitions": {"dt": "008"}}),
    "the partition of nulls": (partitions, {"partitions": {"lang": None}, "filter": "id > 1"}),
    "no partition": (partitions, {"partitions": {"dt": "9"}}),
    "colons in names": (colons, {}),
    "a filter": (many, {"filter": "i8 < 0 or dict = 'a'"}),
    "a column of folders and files": (inside_too, {}),
    "files that do not agree": (widened, {"merge_schema": True}),
}


HDFS = ("every type", "some partitions", "files that do not agree")
"""What is tried there as well: bytes are fetched in another way, and nothing else is."""


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *(("s3", name) for name in SAME),
        *(("hdfs", name) for name in HDFS),
        *((kind, "some partitions") for kind in ("gcs", "azure")),
    ],
)
def test_the_rows_are_those_that_spark_reads_of_a_disk(
    spark: SparkSession, tmp_path: Path, request: pytest.FixtureRequest, kind: str, name: str
) -> None:
    with remote_folder(kind, request, spark) as url:
        _compare(spark, tmp_path, url, name)


def _compare(spark: SparkSession, tmp_path: Path, url: str, name: str) -> None:
    make, conf = SAME[name]
    make(tmp_path)
    here, there = source(spark, tmp_path, **conf), source(spark, upload(tmp_path, url), **conf)
    assert there.df.schema == here.df.schema
    local, remote = rows_of(here, tmp_path), rows_of(there, url)
    assert remote.schema == local.schema
    assert bits(remote) == bits(local)
    assert there.rows == here.rows == local.num_rows
    assert there.df.count() == here.rows


def damaged(folder: Path) -> None:
    write(folder / "1.parquet")
    write(folder / "2.parquet")
    content = (folder / "2.parquet").read_bytes()
    (folder / "2.parquet").write_bytes(content[:-20])


def no_parquet(folder: Path) -> None:
    (folder / "2.parquet").write_bytes(b"id,text\n1,a\n")


def no_bytes(folder: Path) -> None:
    (folder / "2.parquet").touch()


def disagreeing(folder: Path) -> None:
    write(folder / "1.parquet")
    write(folder / "2.parquet", {"id": pa.array([1], pa.int32()), "text": ["a"]})


def lacking(folder: Path) -> None:
    write(folder / "1.parquet")
    write(folder / "2.parquet", {"id": [1]})


def nanoseconds(folder: Path) -> None:
    write(folder / "1.parquet", {"text": ["a"], "t": pa.array([1], pa.timestamp("ns"))})


def half(folder: Path) -> None:
    write(folder / "1.parquet", {"text": ["a"], "h": pa.array([1.0], pa.float16())})


def many_digits(folder: Path) -> None:
    digits = pa.array([Decimal(1)], pa.decimal256(40, 2))
    write(folder / "1.parquet", {"text": ["a"], "d": digits})


def nulls(folder: Path) -> None:
    write(folder / "1.parquet", {"id": [1, 2], "text": ["a", None]})


def no_partition(folder: Path) -> None:
    write(folder / "more/1.parquet")


def two_ways(folder: Path) -> None:
    write(folder / "a=1/1.parquet")
    write(folder / "b=1/1.parquet")


def null_folder(folder: Path) -> None:
    write(folder / "text=__HIVE_DEFAULT_PARTITION__/1.parquet", {"id": [1]})


REFUSED = [damaged, no_parquet, no_bytes, disagreeing, lacking, nanoseconds, half, many_digits]
REFUSED += [nulls, no_partition, two_ways, null_folder]


@pytest.mark.parametrize("make", REFUSED)
def test_what_is_refused_on_a_disk_is_refused_in_the_same_words(
    spark: SparkSession, tmp_path: Path, url: str, make: Any
) -> None:
    make(tmp_path)
    upload(tmp_path, url)
    told = []
    for path in (tmp_path, url):
        with pytest.raises(DataError) as error:
            source(spark, path, columns=("text",))
        text = re.sub(rf"{path}[/\w=.]*?(?=/[^/ ]*\.parquet|[ ,:)])", "ROOT", str(error.value))
        told.append((type(error.value), text.replace(f"{path}/", "ROOT/")))
    assert told[0] == told[1]


def test_a_table_of_another_format_is_refused(tmp_path: Path, url: str) -> None:
    write(tmp_path / "delta/1.parquet")
    (tmp_path / "delta/_delta_log").mkdir()
    (tmp_path / "delta/_delta_log/0.json").write_text("{}")
    write(tmp_path / "ice/data/1.parquet")
    (tmp_path / "ice/metadata").mkdir()
    (tmp_path / "ice/metadata/v1.metadata.json").write_text("{}")
    upload(tmp_path, url)
    for path, what in [
        ("delta", "holds a Delta Lake table"),
        ("delta/1.parquet", "lies in a Delta Lake table"),
        ("ice", "holds an Apache Iceberg table"),
        ("ice/data", "lies in an Apache Iceberg table"),
    ]:
        with pytest.raises(DataError, match=what):
            found(f"{url}/{path}")


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["s3://bucket/a", "s3://bucket/a/b"], "its rows would be read twice"),
        (["s3://bucket/a", "s3a://bucket/a/"], "its rows would be read twice"),
        (["s3://bucket/a*"], "has a pattern"),
        (["s3://bucket/a", "/data"], "name paths of one kind"),
        (["s3:///a"], "names no bucket"),
    ],
)
def test_paths_that_cannot_be_are_refused(paths: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        find_input(InputConfig.checked(paths=paths), settings={}, columns=[])


@pytest.mark.parametrize("output", ["s3a://bucket/a/b", "S3://bucket/a", "s3://bucket"])
def test_an_output_around_the_input_is_refused(output: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lie in one another|is also in input\.paths"):
        job(tmp_path, tmp_path, input={"paths": ["s3://bucket/a"]}, output={"path": output})


def test_a_filter_by_the_name_of_a_file_is_refused() -> None:
    with pytest.raises(UsageError, match=r"input_file_name\(\), which is empty where the workers"):
        InputConfig.checked(paths=["s3://bucket/a"], filter="input_file_name() like '%1%'")


def test_an_old_calendar_is_refused(spark: SparkSession, tmp_path: Path, url: str) -> None:
    table = pa.table({"text": ["a"], "d": [dt.date(1500, 1, 1)]})
    notes = {"org.apache.spark.version": "4.1.0", "org.apache.spark.legacyDateTime": ""}
    write(tmp_path / "1.parquet", table.replace_schema_metadata(notes))
    with pytest.raises(DataError, match="by the old calendar, which only Spark reads"):
        source(spark, upload(tmp_path, url))


def test_a_type_that_workers_do_not_read_is_refused(
    spark: SparkSession, tmp_path: Path, url: str
) -> None:
    spark.sql("SELECT parse_json('1') AS v, 1 AS id").write.parquet(str(tmp_path / "t"))
    with pytest.raises(SchemaError, match=r"'v' is or holds a .*variant.*nothing was written"):
        source(spark, upload(tmp_path / "t", url)).df.collect()
