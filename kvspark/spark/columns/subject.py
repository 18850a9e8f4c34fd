"""The column of a table that says whose row it is, where the cache binds entries to subjects."""

from __future__ import annotations

from pyspark.sql.types import IntegralType, StringType, StructType

from kvspark.config.cache import CacheConfig
from kvspark.errors import SchemaError
from kvspark.infer.rows.subject import SUBJECT


def subject_inputs(cache: CacheConfig | None, schema: StructType) -> dict[str, str]:
    """The subject and its column, as inputs and their columns stand; nothing where `cache` asks for none.

    Raises:
        SchemaError: the table lacks the column, has it twice, or its type names no subject.
    """
    if cache is None or cache.subject is None:
        return {}
    name = cache.subject
    if schema.names.count(name) != 1:
        raise SchemaError(
            f"cache.subject names column {name!r}, which is there {schema.names.count(name)} times "
            f"(found: {', '.join(schema.names) or 'none'}); name one that says whose row it is"
        )
    kind = schema[name].dataType
    if not isinstance(kind, StringType | IntegralType):
        raise SchemaError(
            f"cache.subject names column {name!r} of type {kind.simpleString()}; a subject is a text or "
            "a whole number, cast the column"
        )
    return {SUBJECT: name}
