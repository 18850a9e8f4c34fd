"""Tables that are more than their Parquet files are refused by name, whichever of their paths is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvspark.config.table.input_table import InputConfig
from kvspark.errors import DataError
from kvspark.spark.tables.input_files import find_files
from tests.spark.publishing import write_rows


def delta(table: Path) -> Path:
    """A file of a partition, in a table."""
    (table / "_delta_log").mkdir(parents=True)
    (table / "_delta_log" / "00000000000000000000.json").write_text("{}")
    return table / "p=1" / "part-0.parquet"


def iceberg(table: Path) -> Path:
    (table / "metadata").mkdir(parents=True)
    (table / "metadata" / "00001-8e.metadata.json").write_text("{}")
    return table / "data" / "p=1" / "part-0.parquet"


def iceberg_of_hadoop(table: Path) -> Path:
    (table / "metadata").mkdir(parents=True)
    (table / "metadata" / "version-hint.text").write_text("1")
    return table / "data" / "p=1" / "part-0.parquet"


def hudi(table: Path) -> Path:
    (table / ".hoodie").mkdir(parents=True)
    return table / "p=1" / "part-0.parquet"


def hudi_elsewhere(table: Path) -> Path:
    (table / "p=1").mkdir(parents=True)
    (table / "p=1" / ".hoodie_partition_metadata").touch()
    return table / "p=1" / "part-0.parquet"


FORMATS: dict[Callable[[Path], Path], str] = {
    delta: "a Delta Lake table",
    iceberg: "an Apache Iceberg table",
    iceberg_of_hadoop: "an Apache Iceberg table",
    hudi: "an Apache Hudi table",
    hudi_elsewhere: "an Apache Hudi table",
}


def find(path: Path | str) -> None:
    find_files(InputConfig.checked(paths=[str(path)]), columns=["content"])


@pytest.mark.parametrize("make", FORMATS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("given", ["table", "partition", "file", "glob", "above", "link", "links"])
def test_a_table_of_another_format_is_no_folder_of_parquet(
    tmp_path: Path, make: Callable[[Path], Path], given: str
) -> None:
    table = tmp_path / "db" / "t=1"
    file = make(table)
    write_rows(file, "also a deleted row")
    (tmp_path / "link").symlink_to(file.parent)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.parquet").symlink_to(file)
    paths: dict[str, Path | str] = {
        "table": table,
        "partition": file.parent,
        "file": file,
        "glob": f"{file.parent}/*.parquet",
        "above": tmp_path / "db",
        "link": tmp_path / "link",
        "links": tmp_path / "links",
    }
    with pytest.raises(DataError, match=FORMATS[make]) as caught:
        find(paths[given])
    assert caught.value.exit_code == 65
    advice: dict[Callable[[Path], Path], str] = {
        delta: "set input.format: delta",
        iceberg: "set input.format: iceberg",
    }
    advice[iceberg_of_hadoop] = advice[iceberg]
    assert advice.get(make, 'spark.read.format("hudi")') in caught.value.line()
    assert "deleted" in caught.value.line()


def test_a_partition_that_is_a_link_into_such_a_table_is_refused(tmp_path: Path) -> None:
    file = delta(tmp_path / "table")
    write_rows(file, "also a deleted row")
    write_rows(tmp_path / "mine" / "p=0" / "part-0.parquet", "fine")
    (tmp_path / "mine" / "p=1").symlink_to(file.parent)
    with pytest.raises(DataError, match="a Delta Lake table"):
        find(tmp_path / "mine")


def test_a_folder_called_metadata_is_no_table(tmp_path: Path) -> None:
    write_rows(tmp_path / "t" / "part-0.parquet", "fine")
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "notes.json").touch()
    (tmp_path / "t" / "metadata").mkdir()
    find(tmp_path / "t")
