"""The columns of a run as an Iceberg table has them, and its own as Parquet files must have them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import TableProperties, Transaction
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from kvspark.errors import OutputError

FIELD_ID = b"PARQUET:field_id"

_PLAIN: Sequence[tuple[pa.DataType, IcebergType]] = (
    (pa.bool_(), BooleanType()),
    (pa.int8(), IntegerType()),
    (pa.int16(), IntegerType()),
    (pa.int32(), IntegerType()),
    (pa.int64(), LongType()),
    (pa.float32(), FloatType()),
    (pa.float64(), DoubleType()),
    (pa.string(), StringType()),
    (pa.large_string(), StringType()),
    (pa.binary(), BinaryType()),
    (pa.large_binary(), BinaryType()),
    (pa.date32(), DateType()),
    (pa.time64("us"), TimeType()),
    (pa.timestamp("us"), TimestampType()),
    (pa.timestamp("us", "UTC"), TimestamptzType()),
)


def is_blank(schema: Schema) -> bool:
    """True for a table that no run has published to yet, and that kvspark made."""
    return not schema.fields


def evolve(
    change: Transaction,
    wanted: pa.Schema,
    partition_by: Sequence[str],
    *,
    table: str,
    may_add: bool,
) -> None:
    """Gives the table of `change` the columns and the partitions of `wanted`, as far as it has not.

    Raises:
        OutputError: a column has a type that Iceberg has not, or it has another one in the table, or the table
            has columns or partitions that the run has not; nothing is staged then that may be committed.
    """
    known = change.table_metadata.schema()
    blank = is_blank(known)
    added = [field for field in wanted if field.name not in known.column_names]
    _check_columns(known, wanted, table)
    if added and not (blank or may_add):
        raise _refused(table, f"has no column {added[0].name!r}, and no run has written it before")
    with change.update_schema(allow_incompatible_changes=blank) as columns:
        for field in added:
            kind = _iceberg(field.type, field.name, table)
            columns.add_column((field.name,), kind, required=blank and not field.nullable)
    if blank and partition_by:
        with change.update_spec() as spec:
            for name in partition_by:
                spec.add_identity(name)
    _check_partitions(change, partition_by, table)
    mapping = change.table_metadata.schema().name_mapping.model_dump_json()
    change.set_properties({TableProperties.DEFAULT_NAME_MAPPING: mapping})


def with_ids(wanted: pa.Schema, known: Schema) -> pa.Schema:
    """The columns `wanted` as files of a table of schema `known` have them: its ids, its nullability, its types."""
    fields = [_arrow_field(field, known.find_field(field.name)) for field in wanted]
    return pa.schema(fields, metadata=wanted.metadata)


def partition_columns(spec: PartitionSpec, schema: Schema) -> list[NestedField]:
    """The columns by whose values `spec` parts the rows, outermost first."""
    return [schema.find_field(field.source_id) for field in spec.fields]


def _check_columns(known: Schema, wanted: pa.Schema, table: str) -> None:
    names = set(wanted.names)
    for field in known.fields:
        if field.name not in names:
            raise _refused(table, f"has a column {field.name!r} that the run has not")
    for field in wanted:
        kind = _shape(_iceberg(field.type, field.name, table))
        if field.name in known.column_names:
            has = _shape(known.find_field(field.name).field_type)
            if has != kind:
                raise _refused(table, f"has column {field.name!r} as {has}, and the run has {kind}")


def _check_partitions(change: Transaction, partition_by: Sequence[str], table: str) -> None:
    metadata = change.table_metadata
    spec = metadata.spec()
    plain = all(isinstance(field.transform, IdentityTransform) for field in spec.fields)
    names = [field.name for field in partition_columns(spec, metadata.schema())]
    if not plain or names != list(partition_by):
        has = ", ".join(f"{field.transform}({field.name})" for field in spec.fields) or "nothing"
        raise OutputError(
            f"{table} is partitioned by {has}, and the run by {', '.join(partition_by) or 'nothing'}; nothing was "
            "published, set output.partition_by to the same columns, or name another table"
        )


def _refused(table: str, why: str) -> OutputError:
    return OutputError(
        f"{table} {why}; nothing was published, change the table or the run's columns, or name another table"
    )


def _iceberg(kind: pa.DataType, path: str, table: str) -> IcebergType:
    for arrow, iceberg in _PLAIN:
        if kind.equals(arrow):
            return iceberg
    if pa.types.is_decimal128(kind) and kind.scale >= 0:
        return DecimalType(kind.precision, kind.scale)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        element = _iceberg(kind.value_type, f"{path}.element", table)
        return ListType(1, element, element_required=not kind.value_field.nullable)
    if pa.types.is_map(kind):
        key = _iceberg(kind.key_type, f"{path}.key", table)
        value = _iceberg(kind.item_type, f"{path}.value", table)
        return MapType(1, key, 2, value, value_required=not kind.item_field.nullable)
    if pa.types.is_struct(kind) and kind.num_fields:
        return StructType(
            *(
                NestedField(
                    place,
                    field.name,
                    _iceberg(field.type, f"{path}.{field.name}", table),
                    required=not field.nullable,
                )
                for place, field in enumerate(kind, 1)
            )
        )
    raise _refused(table, f"can have no column {path!r} of type {kind}, which Iceberg has not")


def _shape(kind: IcebergType) -> str:
    """What a type is, but for ids and nullability."""
    if isinstance(kind, ListType):
        return f"list<{_shape(kind.element_type)}>"
    if isinstance(kind, MapType):
        return f"map<{_shape(kind.key_type)}, {_shape(kind.value_type)}>"
    if isinstance(kind, StructType):
        return f"struct<{', '.join(f'{f.name}: {_shape(f.field_type)}' for f in kind.fields)}>"
    return str(kind)


def _arrow_field(field: pa.Field, known: NestedField) -> pa.Field:
    kind = _arrow_type(field.type, known.field_type)
    metadata = {**(field.metadata or {}), FIELD_ID: str(known.field_id).encode()}
    return pa.field(field.name, kind, nullable=not known.required, metadata=metadata)


def _arrow_type(kind: pa.DataType, known: IcebergType) -> pa.DataType:
    if isinstance(known, ListType):
        return pa.list_(_arrow_field(kind.value_field, known.element_field))
    if isinstance(known, MapType):
        return pa.map_(
            _arrow_field(kind.key_field, known.key_field),
            _arrow_field(kind.item_field, known.value_field),
        )
    if isinstance(known, StructType):
        pairs = zip(kind, known.fields, strict=True)
        return pa.struct([_arrow_field(field, inner) for field, inner in pairs])
    if isinstance(known, IntegerType):
        return pa.int32()  # Iceberg has no narrower one
    return kind
