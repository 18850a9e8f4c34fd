"""Which column of a file is which one of a table: by the id of the field where a table has ids, else by name."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

ID = b"PARQUET:field_id"
"""What Arrow calls the id of a field of a Parquet file.

Source: https://arrow.apache.org/docs/cpp/parquet.html#parquet-field-id
"""


def with_id(field: pa.Field, number: int) -> pa.Field:
    """`field` with an id."""
    return field.with_metadata({**(field.metadata or {}), ID: str(number).encode()})


def id_of(field: pa.Field) -> bytes | None:
    """The id of a field; None where it has none."""
    return (field.metadata or {}).get(ID)


def places_of(wanted: Iterable[pa.Field], there: Iterable[pa.Field]) -> list[int | None]:
    """Where among the fields `there` of a file each of the fields `wanted` is; None where it is not.

    A file of which no field has an id is one that a table of ids took over; its names are those of the table.
    """
    fields = list(there)
    ids = {number: place for place, field in enumerate(fields) if (number := id_of(field))}
    # As Spark finds them: in whatever case they are written.
    names = {field.name.lower(): place for place, field in enumerate(fields)}
    return [
        ids.get(number) if ids and (number := id_of(field)) else names.get(field.name.lower())
        for field in wanted
    ]
