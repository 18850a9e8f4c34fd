"""Whose row a row is: one more column beside the model's inputs, where the cache binds entries to subjects.

It reaches every stage and no computation: it is part of what tells two rows apart, and of the digest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kvspark.errors import SchemaError
from kvspark.infer.rows.columns import Column, TextColumn
from kvspark.infer.rows.readable import Readable
from kvspark.model.stage.stage import Stage

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache

SUBJECT = "\0subject"
"""The column's name among the inputs, which no input of a model has."""


def subject_column(array: pa.Array) -> TextColumn:
    """The subjects that `array` names, by text or number; rows without one are all of the subject "".

    Raises:
        SchemaError: it holds neither.
    """
    kind = array.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (is_text or pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise SchemaError(
            f"cache.subject names a column of type {kind}; a subject is a text or a whole number, "
            "cast the column"
        )
    return TextColumn((array if is_text else array.cast(pa.string())).fill_null(""))


def subject_bytes(subjects: Sequence[str]) -> list[bytes]:
    """The canonical bytes of `subjects`, as they stand in a purge."""
    return TextColumn(pa.array(subjects, pa.string())).row_bytes()


def own_columns(stage: Stage, columns: Mapping[str, Column]) -> dict[str, Column]:
    """What tells the rows of `stage` apart: its inputs and, where rows have one, the subject."""
    own = {name: columns[name] for name in stage.inputs}
    if SUBJECT in columns:
        own[SUBJECT] = columns[SUBJECT]
    return own


def given_subjects(columns: Mapping[str, Any], cache: Cache | None) -> dict[str, pa.Array]:
    """The column of subjects among what a caller gives; nothing where `cache` asks for none.

    Raises:
        SchemaError: it is missing, or holds something else.
    """
    name = None if cache is None else cache.config.subject
    if name is None:
        return {}
    if name not in columns:
        raise SchemaError(
            f"column {name!r} is missing, to which the cache binds entries (cache.subject); got "
            f"{', '.join(columns) or 'none'}"
        )
    return {SUBJECT: pa.array(columns[name])}


def bound(
    found: Readable, arrays: Mapping[str, pa.Array], cache: Cache | None
) -> Mapping[str, Column]:
    """The good rows of `found`, with their subjects where `cache` binds entries to them.

    Raises:
        SchemaError: `arrays` has no subjects, and nothing may be remembered without one.
    """
    if cache is None or cache.config.subject is None:
        return found.columns
    if SUBJECT not in arrays:
        raise SchemaError(
            f"the cache binds entries to column {cache.config.subject!r} (cache.subject), which does not "
            "come along here; use kvspark.score, or a cache without subjects"
        )
    subjects = subject_column(arrays[SUBJECT])
    return {**found.columns, SUBJECT: subjects.take(found.good)}
