"""The values of partition columns, from the folder that a sink names."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow as pa

from kvspark.errors import OutputError
from kvspark.table.partition_folders import texts_in

_PLAIN_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def partition_values(folder: str, schema: pa.Schema) -> Mapping[str, str | None]:
    """What the log of Delta Lake says for `kind=a%2Fb/n=1`: the text of each value, None for null and for an empty text.

    Raises:
        OutputError: a value has no text in it.
    """
    found = texts_in(folder)
    for name, text in found.items():
        is_date = pa.types.is_date32(schema.field(name).type)
        if is_date and text is not None and not _PLAIN_DATE.fullmatch(text):
            raise OutputError(
                f"partition column {name!r} has a date before year 0 or after year 9999, which a table of Delta Lake cannot "
                "say; nothing was published"
            )
    return found
