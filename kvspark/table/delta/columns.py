"""Whether the columns of a run fit into a table of Delta Lake, and what its columns are afterwards."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import pyarrow as pa

from kvspark.errors import OutputError
from kvspark.table.delta.types import fields_of, fits, has_inside, relaxed, worded
from kvspark.table.file_written import FileWritten

_BAD_NAME = re.compile(r"[ ,;{}()\n\t=]")
"""Signs that a column of a table without column mapping may not have in its name."""

_KNOWN_FEATURES = {
    "appendOnly",
    "changeDataFeed",
    "checkConstraints",
    "columnMapping",
    "deletionVectors",
    "generatedColumns",
    "invariants",
    "timestampNtz",
}
"""Those that the client writes; under others, a file may have to be listed in another way."""

_RULES = ("delta.invariants", "delta.generationExpression", "delta.identity.start")
"""Metadata of columns of whose values the format says more than their type."""


@final
@dataclass(frozen=True, slots=True)
class TableColumns:
    """What a table says of itself."""

    fields: Sequence[Mapping[str, Any]]
    partition_by: tuple[str, ...]
    properties: Mapping[str, str] = field(default_factory=dict)
    features: frozenset[str] = frozenset()
    """Of writers; those of old protocols, which have no names, are left out."""


def check_table(there: TableColumns) -> None:
    """Does nothing if files may be added to the table as they are.

    Raises:
        OutputError: its format asks for more.
    """
    asked = sorted(there.features - _KNOWN_FEATURES)
    if there.properties.get("delta.columnMapping.mode", "none") != "none":
        asked.append("columnMapping")
    if there.properties.get("delta.appendOnly", "false") == "true":
        asked.append("appendOnly")
    asked += [name for name in there.properties if name.startswith("delta.constraints.")]
    asked += [f"{rule} of {each['name']}" for each in there.fields for rule in _rules(each)]
    if asked:
        raise OutputError(
            f"the table there asks writers for what kvspark does not do ({', '.join(asked)}); nothing was published, name "
            "another path"
        )


def columns_for(
    schema: pa.Schema,
    partition_by: tuple[str, ...],
    there: TableColumns | None,
    files: Iterable[FileWritten] = (),
) -> list[dict[str, Any]]:
    """The columns of the table once a run with `schema` and `files` has written to it: new ones come last.

    Raises:
        OutputError: they do not fit.
    """
    ours = fields_of(schema)
    _check_names([each["name"] for each in ours], partition_by)
    new = [each | {"type": relaxed(each["type"]), "nullable": True} for each in ours]
    if there is None:
        return new
    if there.partition_by != partition_by:
        raise _unfit(
            f"it is partitioned by {_listed(there.partition_by)} and the run by {_listed(partition_by)}"
        )
    known = {str(each["name"]): each for each in there.fields}
    found = {str(each["name"]): each for each in ours}
    for name, column in known.items():
        _check_column(name, column, found.get(name), files)
    added = [each for each in new if each["name"] not in known]
    _check_names([*known, *(str(each["name"]) for each in added)], partition_by)
    _check_features(added, there)
    return [*map(dict, there.fields), *added]


def _check_column(
    name: str,
    there: Mapping[str, Any],
    ours: Mapping[str, Any] | None,
    files: Iterable[FileWritten],
) -> None:
    if ours is None:
        raise _unfit(f"it has a column {name!r} that the run has not, and columns are not dropped")
    if not fits(there["type"], ours["type"]):
        raise _unfit(
            f"its column {name!r} is of type {worded(there['type'])} and the run's of {worded(ours['type'])}"
        )
    if there["nullable"] or not ours["nullable"]:
        return
    ranges = [each.columns.get(name) for each in files]
    if not all(each is not None and each.nulls == 0 for each in ranges):
        raise _unfit(f"its column {name!r} takes no nulls, and the run's may have some")


def _check_names(names: Sequence[str], partition_by: tuple[str, ...]) -> None:
    for name in names:
        if _BAD_NAME.search(name):
            raise OutputError(
                f"column {name!r} has a sign in its name that columns of Delta Lake do not have (one of ' ,;{{}}()=', a tab "
                "or a line end); nothing was published, rename it"
            )
    twice = [name for name, count in Counter(map(str.lower, names)).items() if count > 1]
    if twice:
        raise OutputError(
            f"there are two columns {twice[0]!r} but for upper and lower case, which a table of Delta Lake cannot have; "
            "nothing was published, rename one"
        )
    if partition_by and set(partition_by) >= set(names):
        raise OutputError(
            "all columns are partition columns, and a table of Delta Lake needs another; nothing was published"
        )


def _check_features(added: Iterable[Mapping[str, Any]], there: TableColumns) -> None:
    for each in added:
        if has_inside(each["type"], "timestamp_ntz") and "timestampNtz" not in there.features:
            raise _unfit(
                f"the run adds column {each['name']!r}, a timestamp without a time zone, and the table does not have the "
                "feature timestampNtz"
            )


def _rules(column: Mapping[str, Any]) -> list[str]:
    metadata = column.get("metadata") or {}
    return [rule for rule in _RULES if rule in metadata]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "nothing"


def _unfit(why: str) -> OutputError:
    return OutputError(
        f"the run does not fit the table there: {why}; nothing was published, change the table or name another path"
    )
