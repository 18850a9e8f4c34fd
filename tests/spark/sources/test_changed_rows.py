"""Rows that the input has changed or removed: any nights leave in the output what scoring the whole input would."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError, SchemaError
from kvspark.spark.sources.find_input import find_input
from kvspark.table.input.growth import Growth
from kvspark.table.input.table_file import ListedFile
from kvspark.table.merge.changes import changes_in, net_files
from tests.spark.sources import delta_logs, iceberg_tables
from tests.spark.sources.customers import (
    KINDS,
    SCHEMA,
    Customers,
    DeltaCustomers,
    IcebergCustomers,
    Nights,
    PartitionsAlone,
    Rows,
    WithChangeData,
    WithPartitions,
    rows,
    score,
)
from tests.table.publish.merging import scores

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.sets(st.integers(0, 9), min_size=1, max_size=4)),
        st.tuples(st.just("change"), st.integers(0, 9)),
        st.tuples(st.just("remove"), st.sets(st.integers(0, 9), min_size=1, max_size=3)),
        st.tuples(st.just("compact"), st.just(0)),
        st.tuples(st.just("run"), st.booleans()),
    ),
    min_size=2,
    max_size=9,
)


def _step(customers: Customers, there: Rows, what: str, told: Any, x: float) -> None:
    """One step in the life of the table, and of what it should be."""
    if what == "insert" and (new := {n: x + n for n in told if n not in there}):
        customers.insert(rows(new))
        there |= new
    elif what == "change" and told in there:
        customers.change(told, x)
        there[told] = x
    elif what == "remove" and (gone := [n for n in told if n in there]):
        customers.remove(*gone)
        for n in gone:
            del there[n]
    elif what == "compact":
        customers.compact()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None)
@given(steps=STEPS)
def test_any_nights_leave_what_scoring_the_whole_input_would(
    kind: Callable[[Path], Customers],
    steps: list[tuple[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp(secrets.token_hex(4))
    customers = kind(folder)
    there: Rows = {}
    nights = Nights(customers, folder)
    for number, (what, told) in enumerate([*steps, ("run", False)]):
        _step(customers, there, what, told, number + 0.1)
        if what == "run":
            nights.run(f"n{number}")
            expected = {n: score(x) for n, x in there.items()}
            assert scores(nights.folder) == expected
            if told:  # whatever has happened since
                _step(customers, there, "change", min(there, default=0), number + 0.7)
                nights.run(f"n{number}", again=True)
                assert scores(nights.folder) == expected
    shutil.rmtree(folder)


def thousand(
    kind: Callable[[Path], Customers], folder: Path, **asked: Any
) -> tuple[Any, Nights, Rows]:
    """A table of so many rows, of which a first night has read all."""
    customers = kind(folder)
    there = {n: n + 0.5 for n in range(1_000)}
    customers.insert(rows(there))
    nights = Nights(customers, folder, **asked)
    assert nights.run("first") == 1_000
    return customers, nights, there


def scored(values: Rows) -> Rows:
    return {n: score(x) for n, x in values.items()}


@pytest.mark.parametrize("kind", [WithChangeData, WithPartitions])
def test_with_change_data_a_night_reads_the_rows_that_were_changed_and_the_last_change_counts(
    kind: Callable[[Path], Customers], tmp_path: Path
) -> None:
    customers, nights, there = thousand(kind, tmp_path)
    for x in (1.25, 2.25, 3.25):
        customers.change(7, x)
    customers.remove(8)
    customers.insert(rows({2_000: 1.0, 2_001: 1.0}))
    customers.remove(2_001)  # which was never read
    customers.compact()
    assert nights.run("second") == 2
    del there[8]
    assert scores(nights.folder) == scored(there | {7: 3.25, 2_000: 1.0})
    assert nights.read is not None
    assert nights.read.changed is not None
    assert sorted(nights.read.changed.rows["id"].to_pylist()) == [7, 8, 2_000, 2_001]
    assert nights.run("third") == 0


@pytest.mark.parametrize("kind", [DeltaCustomers, IcebergCustomers])
def test_without_change_data_it_reads_the_files_that_were_written_again(
    kind: Callable[[Path], Customers], tmp_path: Path
) -> None:
    customers, nights, there = thousand(kind, tmp_path)
    customers.insert(rows({2_000: 1.0}))
    assert nights.run("second") == 1
    customers.change(7, 3.25)
    customers.remove(8)
    assert nights.run("third") >= 999
    del there[8]
    assert scores(nights.folder) == scored(there | {7: 3.25, 2_000: 1.0})


def test_rows_that_are_marked_as_deleted_go_and_no_other_is_read(tmp_path: Path) -> None:
    customers, nights, there = thousand(IcebergCustomers, tmp_path)
    iceberg_tables.delete_rows(customers.table, [3, 5])
    assert nights.run("second") == 0
    del there[3], there[5]
    assert scores(nights.folder) == scored(there)


def test_a_delta_table_that_marks_rows_is_compared_place_by_place(tmp_path: Path) -> None:
    customers = DeltaCustomers(tmp_path)
    shutil.rmtree(customers.path)
    write_deltalake(customers.path, rows({1: 1.0, 2: 2.0, 3: 3.0}))
    before = Nights(customers, tmp_path).found(None)
    delta_logs.delete_rows(Path(customers.path), [1])
    now = Nights(customers, tmp_path).found(None)
    listed = [
        [ListedFile(f.pinned.name, {}, f.deleted) for f in t.table_files] for t in (now, before)
    ]
    files = net_files(*listed)
    assert [each.kind for each in files] == ["came", "went"]
    there = [*now.table_files, *before.table_files]
    changes = changes_in(files, there, pa.schema([("id", pa.int64())]), "t")
    assert changes.new == {}
    assert changes.ids.rows["id"].to_pylist() == [2]


def test_a_row_that_leaves_the_partition_that_is_read_goes(tmp_path: Path) -> None:
    for kind in (WithPartitions, PartitionsAlone):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        customers = kind(folder)
        customers.insert(rows({1: 1.0, 2: 2.0, 3: 3.0}))
        nights = Nights(customers, folder, partitions={"day": "even"})
        assert nights.run("first") == 2
        DeltaTable(customers.path).update(updates={"day": "'odd'"}, predicate="id = 1")
        DeltaTable(customers.path).update(updates={"day": "'even'"}, predicate="id = 2")
        nights.run("second")
        assert scores(nights.folder) == scored({2: 2.0, 3: 3.0})


def insert_nameless(customers: Customers) -> None:
    customers.insert(pa.table([[None], [1.0], [None]], schema=SCHEMA))


def insert_twice(customers: Customers) -> None:
    customers.insert(rows({5_000: 1.0}).take([0, 0]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("meddle", "message"),
    [(insert_nameless, "is null in 1 row that came"), (insert_twice, "is not unique: 1 row more")],
)
def test_rows_of_which_it_is_not_known_which_counts_fail_the_run(
    kind: Callable[[Path], Customers],
    meddle: Callable[[Customers], None],
    message: str,
    tmp_path: Path,
) -> None:
    customers, nights, there = thousand(kind, tmp_path)
    meddle(customers)
    with pytest.raises(DataError, match=rf"id of output\.merge_by {message}.*nothing was written"):
        nights.run("second")
    assert scores(nights.folder) == scored(there)


def test_what_cannot_be_told_any_more_is_refused(tmp_path: Path) -> None:
    customers, nights, there = thousand(DeltaCustomers, tmp_path)
    customers.change(1, 2.0)
    table = DeltaTable(customers.path)
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(DataError, match=r"since the last run are removed.*mode: replace"):
        nights.run("second")
    assert scores(nights.folder) == scored(there)


@pytest.mark.parametrize(
    ("kind", "since"), [(DeltaCustomers, "version 99"), (IcebergCustomers, "snapshot 99")]
)
def test_what_the_last_run_has_read_and_is_gone_is_named(
    kind: Callable[[Path], Customers], since: str, tmp_path: Path
) -> None:
    _, nights, _ = thousand(kind, tmp_path)
    told = (
        rf"has no {since} .*; the last run has read up to {since} of .*nothing was written.*replace"
    )
    with pytest.raises(DataError, match=told):
        nights.found(Growth(since, None, None, ("id",)))


def test_a_column_that_the_table_has_not_is_named(tmp_path: Path) -> None:
    _, nights, _ = thousand(WithChangeData, tmp_path)
    with pytest.raises(SchemaError, match=r"other.*output\.merge_by.*nothing was written"):
        nights.found(Growth("version 1", None, None, ("other",)))


def test_a_column_that_has_become_another_one_is_refused(tmp_path: Path) -> None:
    lake = iceberg_tables.Lake(tmp_path)
    table = lake.table(rows({1: 1.0}).append_column("y", pa.array([2.0])))
    config = InputConfig(**lake.conf)
    last = find_input(config, settings={}, columns=["x"]).version
    for old, new in (("x", "other"), ("y", "x"), ("other", "y")):
        with table.update_schema() as update:
            update.rename_column(old, new)
    for by in (("id",), ()):  # no file has changed, and all rows have
        with pytest.raises(
            DataError, match=r"'[xy]' has become another column.*nothing was written"
        ):
            find_input(
                config, settings={}, columns=["x"], growth=Growth(last, None, None, merge_by=by)
            )


def test_a_partition_column_may_have_another_name_than_at_the_last_run(tmp_path: Path) -> None:
    customers = IcebergCustomers(tmp_path)
    with customers.table.update_spec() as spec:
        spec.add_identity("day")
    customers.insert(rows({1: 1.0, 2: 2.0}))
    nights = Nights(customers, tmp_path)
    last = nights.found(None)
    with customers.table.update_schema() as update:
        update.rename_column("day", "date")
    customers.remove(1)
    found = nights.found(Growth(last.version, None, None, ("id", "date")))
    assert found.changed is not None
    assert found.changed.rows.to_pylist() == [{"id": 1, "date": "even"}]


def test_ids_of_another_type_than_at_the_last_run_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    write_deltalake(path, pa.table({"id": ["a"], "x": [1.0]}))
    config = InputConfig(format="delta", paths=(path,))
    last = find_input(config, settings={}, columns=["x"]).version
    other = pa.table({"id": [1], "x": [1.0]})
    write_deltalake(path, other, mode="overwrite", schema_mode="overwrite")
    with pytest.raises(DataError, match=r"'id' has become .* of another type.*nothing was written"):
        find_input(config, settings={}, columns=["x"], growth=Growth(last, None, None, ("id",)))


def test_partitions_of_dates_that_python_has_not_are_refused(tmp_path: Path) -> None:
    path = str(tmp_path / "t")
    days = pa.array([3_000_000], pa.int32()).cast(pa.date32())
    write_deltalake(path, rows({1: 1.0}).append_column("d", days), partition_by=["d"])
    with pytest.raises(DataError, match=r"dates .* after year 9999.*nothing was written"):
        find_input(InputConfig(format="delta", paths=(path,)), settings={}, columns=["x"])
