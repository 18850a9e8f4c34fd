"""What a sink writes: the rows that it was given, cut as asked, told as they lie there, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvspark.table.encodings import zstd_levels
from kvspark.table.file_written import ColumnRange, FileWritten
from kvspark.table.place.local_place import LocalPlace
from kvspark.table.sink import Sink
from kvspark.table.sink_options import Compression, SinkOptions

MIB = 1 << 20
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("kind", pa.string()),
        pa.field("x", pa.list_(pa.field("element", pa.float32(), nullable=False))),
    ],
    metadata={"maker": "test"},
)


def batch(first: int, rows: int, width: int = 4, kinds: int = 3) -> pa.RecordBatch:
    """Rows of SCHEMA, of which each third has no array."""
    ids = np.arange(first, first + rows)
    x = [None if i % 3 == 2 else np.full(width, i, "float32") for i in ids]
    kind = [None if i % 5 == 4 else f"k{i % kinds}" for i in ids]
    return pa.record_batch({"id": ids, "kind": pa.array(kind, pa.string()), "x": x})


def sink(
    folder: Path, options: SinkOptions | None = None, name: str = "part-0", by: tuple[str, ...] = ()
) -> Sink:
    return Sink(LocalPlace(str(folder)), name, SCHEMA, options, partition_by=by)


def rows_in(folder: Path, files: list[FileWritten]) -> list[dict[str, object]]:
    """All rows, in the order of the files; the column `kind` is that of the folder where it is none of the file."""
    found: list[dict[str, object]] = []
    for file in files:
        there = pq.read_table(folder / file.name)
        found += (
            {"folder": file.folder, **row} if file.folder else row for row in there.to_pylist()
        )
    return found


def test_the_rows_come_back_with_the_schema_and_its_metadata(tmp_path: Path) -> None:
    given = [batch(0, 100), batch(100, 0), batch(100, 50)]
    (file,) = sink(tmp_path).write(iter(given))
    assert file.name == "part-0-c000.zstd.parquet"
    assert rows_in(tmp_path, [file]) == [row for each in given for row in each.to_pylist()]
    there = pq.read_schema(tmp_path / file.name)
    assert there.remove_metadata().equals(SCHEMA.remove_metadata())
    assert there.metadata == {b"maker": b"test"}


def test_what_is_told_of_a_file_is_what_lies_there(tmp_path: Path) -> None:
    (file,) = sink(tmp_path).write([batch(5, 40)])
    content = (tmp_path / file.name).read_bytes()
    assert (file.size_bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert file.rows == 40
    assert file.columns["id"] == ColumnRange(0, 5, 44)
    assert file.columns["kind"] == ColumnRange(8, "k0", "k2")
    assert file.columns["x.list.element"] == ColumnRange(14, 6.0, 43.0)
    assert FileWritten.from_json(file.to_json()) == file


def test_no_row_makes_no_file(tmp_path: Path) -> None:
    assert list(sink(tmp_path).write([])) == []
    assert list(sink(tmp_path).write([batch(0, 0)])) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("by", [(), ("kind",)])
def test_an_empty_file_has_every_column(tmp_path: Path, by: tuple[str, ...]) -> None:
    file = sink(tmp_path, by=by).write_empty()
    assert pq.read_schema(tmp_path / file.name).names == SCHEMA.names
    assert (file.rows, file.folder) == (0, "")


@pytest.mark.parametrize("compression", ["zstd", "snappy", "gzip", "lz4", "uncompressed"])
def test_files_are_compressed_and_checked_as_asked(
    tmp_path: Path, compression: Compression
) -> None:
    options = replace(SinkOptions(), compression=compression)
    (file,) = sink(tmp_path, options).write([batch(0, 100)])
    column = pq.read_metadata(tmp_path / file.name).row_group(0).column(0)
    stored = {"lz4": "LZ4", "uncompressed": "UNCOMPRESSED"}
    assert column.compression == stored.get(compression, compression.upper())
    assert column.has_offset_index
    assert column.has_column_index
    pq.read_table(tmp_path / file.name, page_checksum_verification=True)


def test_only_embeddings_have_no_dictionary(tmp_path: Path) -> None:
    inner = pa.struct([("name", pa.string()), ("vectors", pa.list_(pa.list_(pa.float64())))])
    schema = pa.schema([("score", pa.float32()), ("by_key", pa.map_(pa.string(), inner))])
    value = [("k", {"name": "a", "vectors": [[1.0], [2.0, 3.0]]})]
    rows = pa.table({"score": [0.5], "by_key": [value]}, schema=schema).to_batches()
    (file,) = Sink(LocalPlace(str(tmp_path)), "part-0", schema).write(rows)
    group = pq.read_metadata(tmp_path / file.name).row_group(0)
    columns = [group.column(n) for n in range(group.num_columns)]
    assert zstd_levels(schema).keys() == {c.path_in_schema for c in columns}
    without = {c.path_in_schema for c in columns if "RLE_DICTIONARY" not in c.encodings}
    assert without == {"by_key.key_value.value.vectors.list.element.list.element"}
    assert pq.read_table(tmp_path / file.name).to_pylist() == rows[0].to_pylist()


def test_a_damaged_page_is_found_by_its_checksum(tmp_path: Path) -> None:
    options = SinkOptions(compression="uncompressed")
    (file,) = sink(tmp_path, options).write([batch(0, 1000)])
    path = tmp_path / file.name
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"(?i)crc"):
        pq.read_table(path, page_checksum_verification=True)


def test_row_groups_have_the_rows_that_were_asked_for(tmp_path: Path) -> None:
    options = SinkOptions(group_rows=70)
    (file,) = sink(tmp_path, options).write(batch(n * 40, 40) for n in range(10))
    footer = pq.read_metadata(tmp_path / file.name)
    groups = [footer.row_group(n).num_rows for n in range(footer.num_row_groups)]
    assert groups == [70] * 5 + [50]


def test_a_file_is_cut_before_it_is_too_large(tmp_path: Path) -> None:
    noise = np.random.default_rng(3).random((60, 100, 64), "float32")

    def batches() -> Iterator[pa.RecordBatch]:
        for n, x in enumerate(noise):
            yield pa.record_batch(
                {"id": np.arange(n * 100, n * 100 + 100), "kind": ["k"] * 100, "x": list(x)}
            )

    options = SinkOptions(compression="uncompressed", file_bytes=MIB // 4, group_bytes=MIB // 16)
    files = list(sink(tmp_path, options).write(batches()))
    assert len(files) >= 6
    assert all(file.size_bytes <= MIB // 4 + 10_000 for file in files)  # with its footer
    assert all(file.size_bytes > MIB // 8 for file in files[:-1])
    assert [row["id"] for row in rows_in(tmp_path, files)] == list(range(6000))
    assert len({file.name for file in files}) == len(files)


@pytest.mark.parametrize("order", ["rare", "sorted"])
def test_memory_is_a_few_row_groups_whatever_the_folders(tmp_path: Path, order: str) -> None:
    """Nearly all rows in one folder and one of a rare one in each batch; or one folder after the other."""
    options = SinkOptions(group_bytes=MIB, most_open=64)
    before = pa.total_allocated_bytes()
    highest = through = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal highest, through
        for n in range(300):
            highest = max(highest, pa.total_allocated_bytes() - before)
            made = batch(n * 500, 500, width=64)
            names = [f"rare{n}", *["often"] * 499] if order == "rare" else [f"{n // 10}"] * 500
            through += made.nbytes
            yield pa.record_batch([made["id"], pa.array(names), made["x"]], names=SCHEMA.names)

    files = list(sink(tmp_path, options, by=("kind",)).write(batches()))
    assert sum(file.rows for file in files) == 150_000
    assert through > 24 * MIB
    assert highest < 8 * MIB


def test_few_files_are_open_at_once_and_each_is_told(tmp_path: Path) -> None:
    options = SinkOptions(group_rows=10, most_open=3)
    held = sink(tmp_path, options, by=("kind",))
    given = [batch(n * 200, 200, kinds=9) for n in range(5)]
    files = list(held.write(given))
    assert len({file.folder for file in files}) == 10
    assert len(files) > 10
    assert {path.name for path in tmp_path.iterdir()} == {file.name for file in files}
    told = sorted(row["id"] for row in rows_in(tmp_path, files))  # type: ignore[type-var]
    assert told == list(range(1000))


def test_a_task_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield batch(0, 100)
        assert list(tmp_path.iterdir())
        raise RuntimeError("the model")

    options = SinkOptions(group_rows=10, file_bytes=1, most_open=2)
    writing = sink(tmp_path, options, by=("kind",)).write(broken())
    with pytest.raises(RuntimeError, match="the model"):
        list(writing)
    assert list(tmp_path.iterdir()) == []


def test_a_sink_that_is_closed_early_leaves_no_file(tmp_path: Path) -> None:
    writing = sink(tmp_path, SinkOptions(group_rows=10, file_bytes=1)).write([batch(0, 100)])
    assert isinstance(next(writing), FileWritten)
    writing.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_never_made_again(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(FileNotFoundError):
        list(sink(gone, by=("kind",)).write([batch(0, 10)]))
    assert not gone.exists()


def test_a_full_disk_is_an_error_of_the_file_system(tmp_path: Path) -> None:
    (tmp_path / "part-0-c000.zstd.parquet").symlink_to("/dev/full")
    noise = np.random.default_rng(3).random((400, 5000), "float32")
    rows = pa.record_batch({"id": np.arange(400), "kind": ["k"] * 400, "x": list(noise)})
    with pytest.raises(OSError, match="No space left on device"):
        list(sink(tmp_path, SinkOptions(group_rows=100)).write([rows] * 4))
    assert list(tmp_path.iterdir()) == []


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 60), max_size=12),
    options=st.builds(
        SinkOptions,
        file_bytes=st.sampled_from([1, 3000, MIB]),
        group_rows=st.integers(1, 80),
        group_bytes=st.sampled_from([1, 2000, MIB]),
        most_open=st.integers(1, 4),
    ),
    by=st.sampled_from([(), ("kind",)]),
)
def test_however_it_is_cut_each_row_is_written_once(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    options: SinkOptions,
    by: tuple[str, ...],
) -> None:
    folder = tmp_path_factory.mktemp("sink")
    starts = np.cumsum([0, *sizes])
    given = [batch(int(first), rows) for first, rows in zip(starts, sizes, strict=False)]
    files = list(sink(folder, options, by=by).write(given))
    found = rows_in(folder, files)
    expected = [row for each in given for row in each.to_pylist()]
    if by:
        for row in expected:
            kind = row.pop("kind")
            row["folder"] = f"kind={kind or '__HIVE_DEFAULT_PARTITION__'}"
        for name in {row["folder"] for row in expected}:
            ids = [row["id"] for row in found if row["folder"] == name]
            assert ids == sorted(ids)  # type: ignore[type-var]  # in their order
        found.sort(key=lambda row: row["id"])  # type: ignore[arg-type,return-value]
    assert found == expected
    assert sum(file.rows for file in files) == len(expected)
    assert {path.name for path in folder.iterdir()} == {file.name for file in files}
