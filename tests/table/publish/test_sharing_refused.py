"""To which tables in object stores and in HDFS runs do not add: those of other columns, or of which something is gone."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest

import kvspark
from kvspark.errors import OutputError, UsageError
from tests.table.publish.readers import left_over
from tests.table.publish.shared_tables import BY, LIST, SHARING, Target, ids, publish


@pytest.fixture(params=["s3", "gcs", "azure", "hdfs"])
def target(request: pytest.FixtureRequest) -> Target:
    return Target(request.param, request.getfixturevalue(request.param).url)


@pytest.fixture
def in_s3(request: pytest.FixtureRequest) -> Target:
    return Target("s3", request.getfixturevalue("s3").url)


@pytest.mark.parametrize(
    ("table", "by", "said"),
    [
        ({"id": ["1"], "kind": ["a"]}, BY, "its column 'id' is int64, and string in this run's"),
        ({"id": [1], "kind": ["a"], "x": [1.0]}, BY, "its column 'x' is missing, and double in"),
        ({"id": [1]}, (), "it is partitioned by kind, and this run's rows by nothing"),
        ({"id": [1], "kind": [2]}, BY, "its column 'kind' is string, and int64 in this run's rows"),
    ],
)
def test_other_columns_are_refused_at_once_and_at_the_commit(
    in_s3: Target, table: dict[str, Any], by: tuple[str, ...], said: str
) -> None:
    publish(in_s3.publisher(), "one", [(1, "a"), (2, "b")])
    rows, publisher = pa.table(table), in_s3.publisher()
    with pytest.raises(OutputError, match=f"{said}.*nothing was published, give both the same"):
        publisher.check_columns(rows.schema, by, "two")
    for replaces in SHARING:  # of its own rows it may leave none
        in_s3.publisher(replaces).check_columns(rows.schema, by, "one")
    in_s3.publisher("table").check_columns(rows.schema, by, "two")
    with pytest.raises(OutputError, match=said):
        publish(publisher, "two", rows, by)
    assert in_s3.ids() == [1, 2]
    publish(publisher, "one", rows, by)
    assert kvspark.read(in_s3.url).to_table().num_rows == 1


def test_a_type_that_is_not_known_yet_and_what_is_said_of_nulls_are_no_difference(
    in_s3: Target,
) -> None:
    of = pa.field("element", pa.float32(), nullable=False)
    plain = pa.table({"id": [1], "x": pa.array([[1.0]], pa.list_(pa.float32()))})
    publish(in_s3.publisher(), "one", plain, ())
    strict = pa.schema([pa.field("id", pa.int64(), nullable=False), ("x", pa.list_(of))])
    publish(in_s3.publisher(), "two", plain.cast(strict), ())
    assert in_s3.ids() == [1, 1]
    in_s3.publisher().check_columns(pa.schema({"id": pa.null(), "x": pa.null()}), (), "three")


def test_partitions_are_replaced_only_where_there_are_some(in_s3: Target) -> None:
    with pytest.raises(UsageError, match="only a table with partition columns"):
        publish(in_s3.publisher("partitions"), "one", pa.table({"id": [1]}), ())
    assert in_s3.publisher().current() is None


def test_a_file_that_is_gone_refuses_runs_that_would_miss_it(target: Target) -> None:
    for number, name in enumerate(("one", "two", "three"), 1):
        publish(target.publisher(keep=2), name, [(number, "a")])
    (gone,) = (name for name in target.objects() if name.startswith("_runs/one-"))
    target.store.delete([gone])
    lost = r"_runs/one-.* of an earlier run is gone or was changed.*mode: replace"
    for replaces in SHARING:
        with pytest.raises(OutputError, match=lost):
            target.publisher(replaces).check("two")
    target.publisher().check("one")  # whose files they are
    target.publisher("table").check("two")
    with pytest.raises(OutputError, match="is not whole any more"):
        target.publisher().rollback(target.publisher().versions()[0])
    publish(target.publisher(), "one", [(4, "a")])
    assert target.ids() == [2, 3, 4]


def test_a_list_that_is_damaged_is_not_added_to_and_a_run_that_replaces_all_mends_it(
    in_s3: Target,
) -> None:
    publish(in_s3.publisher(), "one", [(1, "a")])
    attempt = publish(in_s3.publisher(), "two", [(2, "a")])
    in_s3.store.put(f"_runs/{attempt.name}/{LIST}", b"{")
    with pytest.raises(OutputError, match=r"files.json is gone or damaged.*nothing was changed"):
        publish(in_s3.publisher(), "three", [(3, "a")])
    with pytest.raises(OutputError, match=r"files.json is gone or damaged"):
        kvspark.published_files(in_s3.url)
    publish(in_s3.publisher("table"), "whole", [(4, "a")])
    publish(in_s3.publisher(), "three", [(3, "a")])
    assert in_s3.ids() == [3, 4]
    publish(in_s3.publisher(), "four", [(5, "a")])
    assert left_over("s3", in_s3.url) == []


def test_what_an_earlier_kvspark_published_is_read_and_not_added_to(in_s3: Target) -> None:
    publish(in_s3.publisher("table"), "one", [(1, "a")], bad=11)
    current = in_s3.publisher().current()
    assert current is not None
    name = f"_runs/{current.attempt}/{LIST}"
    stored = in_s3.store.get(name)
    assert stored is not None
    (share,) = json.loads(stored.data)["shares"]
    old = {"format": 2, "attempt": current.attempt, "files": share["files"]}
    in_s3.store.put(name, json.dumps(old).encode())
    assert kvspark.read(in_s3.url).to_table().to_pylist() == [{"id": 1, "kind": "a"}]
    assert ids(kvspark.read(in_s3.url, quarantine=True).to_table()) == [11]
    for replaces in SHARING:
        with pytest.raises(OutputError, match=r"an earlier kvspark .*mode: replace"):
            in_s3.publisher(replaces).check("two")
    publish(in_s3.publisher("table"), "two", [(2, "a")])
    publish(in_s3.publisher(), "three", [(3, "a")])
    assert in_s3.ids() == [2, 3]
