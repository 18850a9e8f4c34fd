"""Types by their names in Spark SQL, without Spark."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql.types import (
    BinaryType,
    BooleanType,
    ByteType,
    DataType,
    DateType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    ShortType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from kvspark.spark.tables.footer_schema import UNKNOWN

_TYPES: Mapping[str, DataType] = {
    "bigint": LongType(),
    "binary": BinaryType(),
    "boolean": BooleanType(),
    "byte": ByteType(),
    "date": DateType(),
    "double": DoubleType(),
    "float": FloatType(),
    "int": IntegerType(),
    "integer": IntegerType(),
    "long": LongType(),
    "real": FloatType(),
    "short": ShortType(),
    "smallint": ShortType(),
    "string": StringType(),
    "timestamp": TimestampType(),
    "timestamp_ntz": TimestampNTZType(),
    "tinyint": ByteType(),
}


def named_types(names: Mapping[str, str]) -> dict[str, DataType]:
    """The type that each of `names` stands for; `UNKNOWN` for one that only Spark can tell."""
    return {key: _TYPES.get(name.strip().lower(), UNKNOWN) for key, name in names.items()}
