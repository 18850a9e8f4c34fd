"""Versions in object stores and in HDFS that have files of several runs: what is touched, read and removed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kvspark
from kvspark.errors import OutputError, RunLockedError
from kvspark.spark.tables.object_listing import list_objects
from kvspark.table.objects.object_store import ObjectStore
from kvspark.table.publish import object_publisher
from kvspark.table.publish.publisher import Attempt, Content
from tests.table.publish.readers import left_over
from tests.table.publish.shared_tables import LIST, SHARING, Target, ids, publish, table_of, written


@pytest.fixture(params=["s3", "gcs", "azure", "hdfs"])
def target(request: pytest.FixtureRequest) -> Target:
    return Target(request.param, request.getfixturevalue(request.param).url)


@pytest.fixture
def in_s3(request: pytest.FixtureRequest) -> Target:
    return Target("s3", request.getfixturevalue("s3").url)


# ---------------------------------------------------------------- what is touched


def test_other_files_are_the_very_same_objects_and_nothing_is_copied(target: Target) -> None:
    publish(target.publisher(), "one", [(1, "a"), (2, "b")])
    first = target.objects()
    publish(target.publisher(), "two", [(3, "a"), (4, "c")])
    both = target.objects()
    assert {name: both.get(name) for name in first} == first
    assert len(both) == len(first) + 2
    publish(target.publisher("partitions"), "three", [(5, "a")])
    assert target.ids() == [2, 4, 5]
    third = target.objects()
    assert {name: third.get(name) for name in both} == both  # the version before needs all of them
    publish(target.publisher("partitions"), "four", [(6, "a")])
    assert target.ids() == [2, 4, 6]
    # Of two runs whose folders stay for one partition, the files of the other are gone.
    others = {name: each for name, each in both.items() if "/kind=a/" not in name}
    assert {n: e for n, e in target.objects().items() if "/kind=a/" not in n} == others
    assert len(others) == 2
    assert left_over(target.kind, target.url) == []


def test_a_reader_that_has_begun_keeps_its_files(in_s3: Target) -> None:
    publish(in_s3.publisher(), "one", [(1, "a"), (2, "b")])
    rows = kvspark.read(in_s3.url)
    publish(in_s3.publisher("partitions"), "two", [(3, "a")])
    assert ids(rows.to_table()) == [1, 2]
    publish(in_s3.publisher("partitions"), "three", [(4, "a")])
    with pytest.raises(FileNotFoundError):
        rows.to_table()
    assert in_s3.ids() == [2, 4]


def test_a_run_replaces_its_own_files_of_all_its_nights(in_s3: Target) -> None:
    publish(in_s3.publisher("partitions"), "one", [(1, "a"), (2, "b")])
    publish(in_s3.publisher("partitions"), "one", [(3, "a")])
    publish(in_s3.publisher(), "two", [(4, "a")])
    assert in_s3.ids() == [2, 3, 4]
    publish(in_s3.publisher(), "one", [(5, "c")])
    assert in_s3.ids() == [4, 5]


def test_a_night_without_rows_leaves_the_columns(in_s3: Target) -> None:
    publish(in_s3.publisher(), "one", [])
    publish(in_s3.publisher(), "two", [])
    empty = kvspark.read(in_s3.url).to_table()
    assert (empty.num_rows, set(empty.column_names)) == (0, {"id", "kind"})
    publish(in_s3.publisher(), "three", [(1, None)])
    # Spark takes no file beside the folders of partitions.
    assert len(kvspark.published_files(in_s3.url)) == 1
    publish(in_s3.publisher("partitions"), "four", [])
    assert len(kvspark.published_files(in_s3.url)) == 1
    assert kvspark.read(in_s3.url).to_table().to_pylist() == [{"id": 1, "kind": None}]
    publish(in_s3.publisher(), "three", [])
    assert kvspark.read(in_s3.url).to_table().num_rows == 0


def test_the_bad_rows_of_each_run_are_those_of_its_last_try(in_s3: Target) -> None:
    publish(in_s3.publisher(), "one", [(1, "a")], bad=11)
    publish(in_s3.publisher(), "two", [(2, "a")], bad=12)
    publish(in_s3.publisher(), "one", [(3, "a")], bad=13)
    publish(in_s3.publisher("partitions"), "three", [(4, "b")])
    assert ids(kvspark.read(in_s3.url, quarantine=True).to_table()) == [12, 13]
    publish(in_s3.publisher("table"), "whole", [(5, "b")])
    with pytest.raises(OutputError, match="has no quarantine"):
        kvspark.read(in_s3.url, quarantine=True)
    publish(in_s3.publisher("table"), "again", [(5, "b")])
    assert left_over("s3", in_s3.url) == []


# ---------------------------------------------------------------- what readers find


def test_columns_of_folders_have_their_types_and_nulls(target: Target) -> None:
    days = [dt.date(2026, 1, 1), None]
    table = pa.table({"id": [1, 2], "day": days, "code": ["007", "7"], "is_new": [True, None]})
    by = ("day", "code", "is_new")
    publish(target.publisher(), "one", table, by)
    publish(target.publisher(), "two", table, by)
    found = kvspark.read(target.url).to_table()
    assert found.schema.remove_metadata() == table.schema
    one, two = table.to_pylist()
    assert sorted(found.to_pylist(), key=lambda row: int(row["id"])) == [one, one, two, two]


def test_all_files_are_named_and_no_folder_is_the_table_from_the_first_run_on(
    target: Target,
) -> None:
    for replaces, run_id in zip((SHARING[0], *SHARING), ("one", "two", "three"), strict=True):
        publish(target.publisher(replaces), run_id, [(1, "a"), (2, "b")])
        with pytest.raises(
            OutputError, match=r"no folder is the table.*published_files.*kvspark\.read"
        ):
            kvspark.published_folder(target.url)
        current = target.publisher().current()
        assert current is not None
        assert current.url.endswith(f"/{LIST}")
        assert target.store.stat(f"_runs/{current.attempt}/_SUCCESS") is None
    files = kvspark.published_files(target.url)
    assert all(each.startswith(f"{target.url}/_runs/three-") for each in files)
    publish(target.publisher(), "four", [(3, "a")])
    files = kvspark.published_files(target.url)
    names = [each.removeprefix(f"{target.url}/") for each in files]
    rows = [target.store.get(name) for name in names]
    tables = [pq.read_table(pa.BufferReader(each.data)) for each in rows if each is not None]
    assert ids(pa.concat_tables(tables)) == target.ids() == [1, 2, 3]
    as_input = list_objects([target.url], {})
    assert as_input.runs == ("four",)
    assert [f"{target.url}/{n}" for n in sorted(names)] == [f.name for f in as_input.files]
    assert [dict(f.partition) for f in as_input.files] == [
        {"kind": "a" if "kind=a" in n else "b"} for n in sorted(names)
    ]
    publish(target.publisher("table"), "whole", [(5, "a")])
    folder = kvspark.published_folder(target.url)
    assert [each.rpartition("/kind=a/")[0] for each in kvspark.published_files(target.url)] == [
        folder
    ]


# ---------------------------------------------------------------- what is removed


def test_a_late_file_of_any_run_is_in_no_table_and_is_removed(in_s3: Target) -> None:
    for name in ("one", "two", "three"):
        publish(in_s3.publisher(), name, [(1, name)])
    for name in list(in_s3.objects()):
        in_s3.store.put(name.replace("part-00000", "part-00000-late"), b"late")
    assert in_s3.ids() == [1, 1, 1]
    publisher = in_s3.publisher()
    publisher.abort(publisher.prepare("four"))
    assert left_over("s3", in_s3.url) == []
    assert in_s3.ids() == [1, 1, 1]


def test_nothing_is_removed_while_a_list_that_is_kept_cannot_be_read(in_s3: Target) -> None:
    first = publish(in_s3.publisher(keep=2), "one", [(1, "a")])
    publish(in_s3.publisher(keep=2), "two", [(2, "a")])
    publish(in_s3.publisher(keep=2), "two", [(3, "a")])
    before = set(in_s3.objects())
    name = f"_runs/{first.name}/{LIST}"
    stored = in_s3.store.get(name)
    assert stored is not None
    in_s3.store.put(name, b"{")
    publish(in_s3.publisher(keep=2), "two", [(4, "a")])
    assert before < set(in_s3.objects())
    in_s3.store.put(name, stored.data)
    publish(in_s3.publisher(keep=0), "two", [(5, "a")])
    assert left_over("s3", in_s3.url) == []
    assert in_s3.ids() == [1, 5]


@contextmanager
def without_answers(when: list[bool]) -> Iterator[None]:
    """The store does conditional writes and says nothing of it, while `when` is true."""
    put_if = ObjectStore.put_if

    def silent(store: ObjectStore, name: str, data: bytes, tag: str | None) -> str:
        told = put_if(store, name, data, tag)
        if when and name == "_kvspark/pointer.json":
            when.append(True)
            raise OSError("no answer")
        return told

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(object_publisher, "_WAITS_S", ())
        patch.setattr(ObjectStore, "put_if", silent)
        yield


def test_rows_that_were_added_before_an_answer_was_lost_are_there_once(in_s3: Target) -> None:
    publish(in_s3.publisher(), "one", [(1, "a")])
    publisher = in_s3.publisher()
    attempt = publisher.prepare("two")
    content = written(attempt, table_of([(2, "a")]))
    lost = [True]
    with without_answers(lost):
        publisher.commit(attempt, content)  # it looks, and finds that it was its own
    assert len(lost) == 2
    publisher.commit(attempt, content)
    assert in_s3.ids() == [1, 2]


def test_who_gives_up_leaves_rows_that_a_later_run_has_taken_over(in_s3: Target) -> None:
    publisher = in_s3.publisher()
    attempt = publisher.prepare("one")
    publisher.commit(attempt, written(attempt, table_of([(1, "a")])))
    publish(in_s3.publisher(keep=0), "two", [(2, "a")])
    publisher.abort(attempt)  # it has not heard of its commit, say
    assert in_s3.ids() == [1, 2]


def test_of_two_runs_that_add_at_once_one_wins(target: Target) -> None:
    publish(target.publisher(), "zero", [(0, "a")])
    slow, quick = target.publisher(), target.publisher("partitions")
    attempt = slow.prepare("slow")
    content = written(attempt, table_of([(1, "a")]))
    later = quick.prepare("quick")
    with pytest.raises(RunLockedError, match="another run has begun since") as told:
        slow.commit(attempt, content)
    assert told.value.exit_code == 75
    quick.commit(later, written(later, table_of([(2, "b")])))
    slow.abort(attempt)
    assert target.ids() == [0, 2]
    assert left_over(target.kind, target.url) == []


@pytest.mark.parametrize("moment", ["begins", "publishes"])
def test_a_sweep_that_comes_late_takes_nothing_of_runs_that_began_meanwhile(
    in_s3: Target, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    for number in (1, 2):
        publish(in_s3.publisher(), "one", [(number, "a")])
    slow, quick = in_s3.publisher(keep=0), in_s3.publisher(keep=0)
    attempt = slow.prepare("slow") if moment == "publishes" else None
    put_if, begun, later_ones = ObjectStore.put_if, list[str](), list[tuple[Attempt, Content]]()

    def then_another_begins(store: ObjectStore, name: str, data: bytes, tag: str | None) -> str:
        told = put_if(store, name, data, tag)
        if name == "_kvspark/pointer.json" and not begun:
            begun.append(name)
            later = quick.prepare("quick")
            content = written(later, table_of([(3, "a")]))
            later_ones.append((later, content))
        return told

    monkeypatch.setattr(ObjectStore, "put_if", then_another_begins)
    if attempt is None:
        slow.prepare("slow")
    else:
        slow.commit(attempt, written(attempt, table_of([(4, "b")])))
    ((later, content),) = later_ones
    quick.commit(later, content)
    assert in_s3.ids() == ([2, 3] if attempt is None else [2, 3, 4])
