"""The folders of a partitioned table, named as Spark names them: `dt=2026-01-01/kind=a%2Fb`.

Source: Spark's `ExternalCatalogUtils.escapePathName`, which is Hive's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, final
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
"""The value of a folder whose rows have null, or an empty text."""

_ESCAPED = {*map(chr, range(1, 0x20)), *"\"#%'*/:=?\\\x7f{[]^"}
_LAST_PLAIN_YEAR = 9999
"""A later one has a sign, as ISO 8601 has it."""


def has_folder_name(kind: pa.DataType) -> bool:
    """True if values of `kind` have the same text here as in Spark: texts, whole numbers, booleans, dates."""
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_integer(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_date32(kind)
    )


def escaped(text: str) -> str:
    """`text` as Spark writes it into the name of a folder."""
    return "".join(f"%{ord(char):02X}" if char in _ESCAPED else char for char in text)


def texts_in(folder: str) -> dict[str, str | None]:
    """The text of each value in `kind=a%2Fb/n=1`, by its column; None for null and for an empty text."""
    parts = (part.partition("=") for part in folder.split("/")) if folder else ()
    return {unquote(name): None if text == HIVE_NULL else unquote(text) for name, _, text in parts}


def days_in(text: str) -> int:
    """The days since 1970 of a date as it is in the name of a folder, whatever its year."""
    return int(np.datetime64(text.removeprefix("+"), "D").astype(int))


@final
class PartitionFolders:
    """Rows by the folder in which they belong."""

    def __init__(self, schema: pa.Schema, partition_by: Sequence[str]) -> None:
        """Of tables of `schema`, by the columns `partition_by`, outermost first."""
        self._places = [schema.get_field_index(name) for name in partition_by]
        self._names = [escaped(name) for name in partition_by]
        rest = [n for n in range(len(schema)) if n not in self._places]
        self._rest = rest
        self.inside = pa.schema([schema.field(n) for n in rest], metadata=schema.metadata)
        """The columns that the files have."""

    def split(self, batch: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Each folder of which `batch` has rows, and those in their order; nothing in them is shared."""
        rows = batch.select(self._rest)
        if not self._places or not batch.num_rows:
            yield "", rows
            return
        columns = [
            self._folders(name, batch.column(place))
            for name, place in zip(self._names, self._places, strict=True)
        ]
        found = pc.binary_join_element_wise(*columns, "/").dictionary_encode()
        folders, codes = found.dictionary.to_pylist(), found.indices.to_numpy()
        if len(folders) == 1:
            yield folders[0], rows
            return
        order = np.argsort(codes, kind="stable")
        ends = np.cumsum(np.bincount(codes, minlength=len(folders)))
        for folder, places in zip(folders, np.split(order, ends[:-1]), strict=True):
            # Slices of one array would keep all of it in memory until the rarest folder is written.
            yield folder, rows.take(pa.array(places))

    def _folders(self, name: str, column: pa.Array) -> pa.Array:
        coded = column.dictionary_encode()
        values = coded.dictionary
        if pa.types.is_date32(values.type):
            values = values.cast(pa.int32())
            texts = [_date(value) for value in values.to_pylist()]
        else:
            texts = [_text(value) for value in values.to_pylist()]
        folders = pa.array([f"{name}={text}" for text in texts], pa.string())
        return folders.take(coded.indices).fill_null(f"{name}={HIVE_NULL}")


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return escaped(str(value)) or HIVE_NULL


def _date(days: int) -> str:
    day = np.datetime64(days, "D")
    year = int(day.astype("datetime64[Y]").astype(int)) + 1970
    sign = "-" if year < 0 else "+" if year > _LAST_PLAIN_YEAR else ""
    return f"{sign}{abs(year):04d}{str(day)[-6:]}"
