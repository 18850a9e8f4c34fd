from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kvspark.demo.nights.night import Night, nights_in
from kvspark.errors import DataError, SchemaError, UsageError

ROWS = {"id": ["a", "b"], "text": ["x", "y"], "label": ["l", "m"]}


def write(path: Path, **columns: object) -> Night:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({**ROWS, **columns}), path)
    return Night(path.stem, path)


def test_files_and_folders_are_nights_in_the_order_of_their_names(tmp_path: Path):
    write(tmp_path / "2026-01-02.parquet")
    write(tmp_path / "2026-01-01" / "part-0.parquet")
    write(tmp_path / "2026-01-01" / "part-1.parquet", id=["c", "d"])
    write(tmp_path / "_temporary" / "part-0.parquet")
    (tmp_path / "notes.txt").write_text("no night")
    nights = nights_in(tmp_path)
    assert [night.name for night in nights] == ["2026-01-01", "2026-01-02"]
    assert [night.read().num_rows for night in nights] == [4, 2]


def test_text_may_be_large_or_a_dictionary(tmp_path: Path):
    night = write(
        tmp_path / "n.parquet",
        text=pa.array(["x", "y"], pa.large_string()),
        label=pa.array(["l", "m"]).dictionary_encode(),
    )
    assert night.read().to_pydict() == ROWS


def test_a_folder_without_nights_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no night"):
        nights_in(tmp_path)
    with pytest.raises(UsageError, match="is not a folder"):
        nights_in(tmp_path / "absent")


def test_a_missing_column_is_named(tmp_path: Path):
    pq.write_table(pa.table({"id": ["a"], "text": ["x"]}), tmp_path / "n.parquet")
    with pytest.raises(SchemaError, match="'label'"):
        Night("n", tmp_path / "n.parquet").read()


@pytest.mark.parametrize(
    ("columns", "error", "said"),
    [
        ({"id": [1, 2]}, SchemaError, "column id is int64"),
        ({"text": ["x", None]}, DataError, "column text has 1 null"),
        ({"id": ["a", "a"]}, DataError, "2 rows have 1 distinct ids"),
    ],
    ids=["numbers for text", "a null", "an id twice"],
)
def test_rows_that_cannot_be_compared_are_refused(
    tmp_path: Path, columns: dict[str, object], error: type[Exception], said: str
):
    with pytest.raises(error, match=said):
        write(tmp_path / "n.parquet", **columns).read()


def test_an_empty_night_is_refused(tmp_path: Path):
    path = tmp_path / "n.parquet"
    pq.write_table(pa.table(ROWS).slice(0, 0), path)
    with pytest.raises(DataError, match="no rows"):
        Night("n", path).read()


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path):
    (tmp_path / "n.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        Night("n", tmp_path / "n.parquet").read()
