"""The schema that Spark will find in Parquet files, known from their footers before there is a JVM."""

from __future__ import annotations

import json

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql.pandas.types import from_arrow_type
from pyspark.sql.types import DataType, NullType, StringType, StructField, StructType

from kvspark.spark.tables.footers import Footer
from kvspark.spark.tables.input_files import InputFiles

_WIDER = {
    pa.uint8(): pa.int16(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): pa.decimal128(20, 0),
}
"""Spark has no unsigned integers."""

UNKNOWN = NullType()
"""The type of a column that only Spark can tell."""


def schema_of(files: InputFiles) -> StructType:
    """The columns of `files` as Spark will read them, those of folder names last.

    A type that cannot be told without Spark is `UNKNOWN`.
    """
    fields = _fields_of(files.footers[0])
    if files.merges:
        fields = _all_fields(files)
    inside = {field.name for field in fields}
    outside = [name for name in files.partition_columns if name not in inside]
    return StructType([*fields, *(StructField(name, StringType()) for name in outside)])


def _fields_of(footer: Footer) -> list[StructField]:
    fields = _spark_fields(footer.spark_schema)
    if fields is None:
        fields = [StructField(field.name, spark_type(field.type)) for field in footer.arrow]
    return fields


def _all_fields(files: InputFiles) -> list[StructField]:
    """The columns of all files; Spark tells the type of one on which they do not agree."""
    samples = {str(f.columns) + str(f.spark_schema): f for f in files.footers}
    found: dict[str, StructField] = {}
    for footer in samples.values():
        for field in _fields_of(footer):
            known = found.setdefault(field.name, field)
            if known.dataType != field.dataType:
                found[field.name] = StructField(field.name, UNKNOWN)
    return list(found.values())


def _spark_fields(text: str | None) -> list[StructField] | None:
    """The schema that Spark wrote into the file; None where it did not, or it is not one."""
    if text is None:
        return None
    try:
        return list(StructType.fromJson(json.loads(text)).fields)
    except (ValueError, KeyError, TypeError, PySparkException):
        return None


def spark_type(type_: pa.DataType) -> DataType:
    """What Spark makes of Arrow's `type_` in a file; `UNKNOWN` if only Spark can tell."""
    try:
        return from_arrow_type(_plain(type_))
    except (PySparkException, TypeError):
        return UNKNOWN


def _plain(type_: pa.DataType) -> pa.DataType:
    """`type_` without what pyarrow remembers of its writer and Parquet does not hold."""
    if pa.types.is_dictionary(type_):
        return _plain(type_.value_type)
    if (
        pa.types.is_list(type_)
        or pa.types.is_large_list(type_)
        or pa.types.is_fixed_size_list(type_)
    ):
        return pa.list_(_plain(type_.value_type))
    if pa.types.is_large_string(type_):
        return pa.string()
    if pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_):
        return pa.binary()
    return _WIDER.get(type_, type_)
