"""Parquet in an object store is read as on a disk: types, values, places, refusals, and the same outputs of a job."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

import kvspark
from kvspark.cli.app import run as command
from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, KvsparkError, RowError, SchemaError, SecretError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.badrows.run_bad_rows import bad_rows_of
from kvspark.spark.jobs import job as scoring_job
from kvspark.spark.jobs.job import run_score
from kvspark.spark.sources.find_input import find_input
from tests.object_proxy import object_proxy, say
from tests.object_server import S3Address, s3_store
from tests.spark.small_jobs import job, published, write_night
from tests.spark.sources.every_type import every_type
from tests.spark.sources.twins import bits, found, rows_of, source, upload, workers_reach

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
    table = every_type()
    write(folder / "a.parquet", table)
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


SAME: Mapping[str, tuple[Callable[[Path], None], Mapping[str, Any]]] = {
    "every type": (many, {}),
    "INT96": (old_times, {}),
    "partitions": (partitions, {}),
    "some partitions": (partitions, {"partitions": {"dt": "008"}}),
    "the partition of nulls": (partitions, {"partitions": {"lang": None}, "filter": "id > 1"}),
    "no partition": (partitions, {"partitions": {"dt": "9"}}),
    "a filter": (many, {"filter": "i8 < 0 or dict = 'a'"}),
    "a column of folders and files": (inside_too, {}),
    "files that do not agree": (widened, {"merge_schema": True}),
}


@pytest.mark.parametrize("name", SAME)
def test_the_rows_are_those_that_spark_reads_of_a_disk(
    spark: SparkSession, tmp_path: Path, url: str, name: str
) -> None:
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


def nulls(folder: Path) -> None:
    write(folder / "1.parquet", {"id": [1, 2], "text": ["a", None]})


def no_partition(folder: Path) -> None:
    write(folder / "more/1.parquet")


def two_ways(folder: Path) -> None:
    write(folder / "a=1/1.parquet")
    write(folder / "b=1/1.parquet")


def null_folder(folder: Path) -> None:
    write(folder / "text=__HIVE_DEFAULT_PARTITION__/1.parquet", {"id": [1]})


REFUSED = [damaged, no_parquet, no_bytes, disagreeing, lacking, nanoseconds, half, nulls]
REFUSED += [no_partition, two_ways, null_folder]


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


@pytest.mark.parametrize("output", ["s3a://bucket/a/b", "s3://bucket/a", "s3://bucket"])
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


@pytest.fixture
def folder(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return tmp_path


def test_a_job_publishes_the_rows_of_a_local_input(
    spark: SparkSession, folder: Path, url: str
) -> None:
    night = write_night(folder / "night", files=3)
    inputs = {"inputs": {"x": {"expr": "transform(x, v -> v * float(2))"}}}
    run_score(job(folder, night, **inputs), spark=spark)
    local = published(folder / "out")
    config = job(folder, night, input={"paths": [upload(night, url)]}, **inputs)
    report = run_score(config, spark=spark)
    assert published(folder / "out").equals(local)
    assert (report.rows_in, report.rows_out, report.input_files) == (200, 200, 3)
    assert list(report.inputs) == [url]
    assert report.input_names == tuple(f"{url}/{number}.parquet" for number in range(3))
    assert report.input_version is None
    assert run_score(config, spark=spark).input_digest == report.input_digest


def test_a_bad_row_is_named_by_its_object_and_its_place(
    spark: SparkSession, folder: Path, url: str
) -> None:
    night = write_night(folder / "night", files=1)
    x = pa.array([[1.0] * 8, [float(n) for n in range(7)]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": [1000, 1001], "x": x}), night / "bad.parquet")
    there = {"paths": [upload(night, url)]}
    with pytest.raises(RowError, match=rf"^{url}/bad\.parquet row 1: "):
        run_score(job(folder, night, input=there), spark=spark)
    config = job(folder, night, input={**there, "on_bad_row": "quarantine"})
    report = run_score(config, spark=spark)
    assert (report.rows_out, report.rows_quarantined) == (201, 1)
    (row,) = kvspark.read(folder / "out", quarantine=True).to_table().to_pylist()
    assert (row["file"], row["row"]) == (f"{url}/bad.parquet", 1)


def test_the_other_commands_read_it_too(
    spark: SparkSession, folder: Path, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = job(folder, upload(write_night(folder / "night"), url))  # type: ignore[arg-type]
    (folder / "job.yaml").write_text(config.model_dump_json(exclude_unset=True))
    assert command(["check", str(folder / "job.yaml")]) == 0
    assert "2 files with 200 rows" in capsys.readouterr().out


def test_what_kvspark_has_published_is_read_as_its_pointer_says_it(
    spark: SparkSession, folder: Path, url: str
) -> None:
    first, second = (write_night(folder / name, seed=n) for n, name in enumerate(["one", "two"]))
    for night, run_id in ((first, "one"), (second, "two")):
        pq.write_table(
            pq.read_table(night / "0.parquet").append_column("k", pa.array(["a", "b"] * 50)),
            night / "0.parquet",
        )
        (night / "1.parquet").unlink()
        output = {"path": url, "partition_by": "k"}
        run_score(job(folder, night, run={"id": run_id}, output=output), spark=spark)
    there = found(url)
    assert there.version == "run two"
    read = there.read(spark)
    assert sorted(row.id for row in read.select("id").collect()) == list(range(100))
    expected = kvspark.read(url).to_table().sort_by("id")
    assert read.orderBy("id").toArrow().equals(expected.cast(read.toArrow().schema))
    # A run that is published meanwhile is not what was found.
    run_score(job(folder, first, run={"id": "three"}, output=output), spark=spark)
    assert read.orderBy("id").toArrow().equals(expected.cast(read.toArrow().schema))


def test_an_object_that_is_written_while_a_run_reads_is_an_error(
    spark: SparkSession, folder: Path, url: str
) -> None:
    upload(write_night(folder / "night"), url)
    there = found(url)
    df = there.read(spark)
    there.check_unchanged()
    upload(write_night(folder / "other", seed=9), url)
    with pytest.raises(DataError, match=r"\d\.parquet changed while the run read it"):
        there.check_unchanged()
    with pytest.raises(Exception, match=r"was written or removed after the run had found it"):
        df.collect()


def test_credentials_that_expire_while_workers_read_publish_nothing_and_the_next_run_is_right(
    spark: SparkSession, folder: Path, url: str, s3: S3Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    night = write_night(folder / "night")
    upload(night, url)
    run_score(job(folder, night), spark=spark)
    before = published(folder / "out")
    with object_proxy(s3.endpoint) as proxy:
        config = job(folder, night, input={"paths": [url], "storage": {"endpoint": proxy.endpoint}})

        def expired(*args: Any) -> Any:
            proxy.turn_on(say(403, "ExpiredToken"), lambda method, path: ".parquet" in path)
            return bad_rows_of(*args)

        # What comes before the rows are scored: listing, footers, the first rows.
        monkeypatch.setattr(scoring_job, "bad_rows_of", expired)
        with pytest.raises(
            SecretError, match=r"refuses these credentials .*; nothing was published$"
        ):
            run_score(config, spark=spark)
        assert proxy.fired
        assert published(folder / "out").equals(before)
        proxy.turn_off()
        monkeypatch.undo()
        run_score(config, spark=spark)
    assert published(folder / "out").equals(before)


def test_refused_credentials_are_one_line_without_them(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(write_night(folder / "night"), url)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    config = job(folder, url + "-", input={"paths": [f"{url}/./"], "storage": {"region": "eu"}})  # type: ignore[arg-type]
    with pytest.raises(KvsparkError, match="refuses these credentials") as told:
        run_score(config)
    assert isinstance(told.value, SecretError)
    assert "not-the-secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_file_that_is_not_there_and_an_empty_folder_say_so(url: str) -> None:
    with pytest.raises(DataError, match="does not exist"):
        found(url)
    store = s3_store()
    with store.open_output_stream(f"{url.removeprefix('s3://')}/_SUCCESS") as stream:
        stream.write(b"")
    with pytest.raises(DataError, match="holds no Parquet file with content"):
        found(url)
