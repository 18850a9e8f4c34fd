"""The nights that the demo scores: which files, in which order, and whether they can be used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from kvspark.errors import DataError, SchemaError, UsageError
from kvspark.wording import count_of

COLUMNS = ("id", "text", "label")

SHIPPED = Path(__file__).parent / "data"


@final
@dataclass(frozen=True, slots=True)
class Night:
    """One table of one night."""

    name: str
    path: Path
    """A Parquet file, or a folder of them."""

    def read(self) -> pa.Table:
        """The columns `id`, `text` and `label`, checked.

        Raises:
            SchemaError: a column is missing or is not text.
            DataError: it cannot be read, is empty, has a null, or has an id twice.
        """
        table = self._columns()
        if table.num_rows == 0:
            raise DataError(f"{self.path}: no rows; a night needs at least one")
        for name in COLUMNS:
            if table[name].null_count:
                raise DataError(
                    f"{self.path}: column {name} has {count_of(table[name].null_count, 'null')}; the demo needs none"
                )
        distinct = pc.count_distinct(table["id"]).as_py()
        if distinct != table.num_rows:
            raise DataError(
                f"{self.path}: {table.num_rows} rows have {distinct} distinct ids; nights are compared "
                "row by row, so each id must be there once"
            )
        return table

    def _columns(self) -> pa.Table:
        try:
            files = ds.dataset(self.path, format="parquet")
            missing = [name for name in COLUMNS if name not in files.schema.names]
            if missing:
                raise SchemaError(
                    f"{self.path}: columns {missing} are missing, there are {files.schema.names}; "
                    f"a night has the columns {list(COLUMNS)}, all text"
                )
            for name in COLUMNS:
                _check_text(self.path, files.schema.field(name))
            return files.to_table(columns=list(COLUMNS)).cast(
                pa.schema([pa.field(name, pa.string()) for name in COLUMNS])
            )
        except (pa.ArrowException, OSError) as exc:
            raise DataError(f"{self.path}: cannot be read as Parquet: {exc}") from exc


def shipped_nights() -> list[Night]:
    """WordNet 3.0 and 3.1, as they come with this package."""
    return [
        Night("WordNet 3.0", SHIPPED / "wordnet-3.0.parquet"),
        Night("WordNet 3.1", SHIPPED / "wordnet-3.1.parquet"),
    ]


def nights_in(folder: Path) -> list[Night]:
    """The Parquet files and folders in `folder`, one night each, in the order of their names.

    Raises:
        UsageError: there is no such folder, or no night in it.
    """
    if not folder.is_dir():
        raise UsageError(f"nights: {folder} is not a folder; give one that holds Parquet nights")
    found = sorted(path for path in folder.iterdir() if _is_night(path))
    if not found:
        raise UsageError(
            f"nights: {folder} holds no night; expected files NAME.parquet or folders of Parquet files, "
            f"with the columns {list(COLUMNS)}"
        )
    return [Night(path.stem if path.is_file() else path.name, path) for path in found]


def _is_night(path: Path) -> bool:
    if path.name.startswith((".", "_")):
        return False
    return path.suffix == ".parquet" if path.is_file() else any(path.rglob("*.parquet"))


def _check_text(path: Path, field: pa.Field) -> None:
    held = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if not (pa.types.is_string(held) or pa.types.is_large_string(held)):
        raise SchemaError(f"{path}: column {field.name} is {field.type}, expected string")
