"""What is new in a table since a version of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

from kvspark.errors import DataError
from kvspark.fingerprint import digest
from kvspark.table.input.table_file import ListedFile


@final
@dataclass(frozen=True, slots=True)
class Growth:
    """Which part of a table a run reads, in the words of reports: `version 12`, `snapshot 123`, `no snapshot`."""

    since: str | None
    """What an earlier run has read; None if none has."""
    until: str | None
    """What the run that is done again had read; None for the newest."""
    part: str | None = None
    """Which table, and which rows of it, the last run has read."""
    merge_by: tuple[str, ...] = ()
    """The columns by which changed and removed rows are known; without them only added ones may be new."""
    results: str | None = None
    """What decided the results of the rows that stay in the output; None where nobody knows."""

    def check_part(self, part: str, table: str) -> None:
        """Does nothing if the last run has read the same `part`, or nobody knows.

        Raises:
            DataError: it was another table at the same place, another filter or other partitions: rows would be left out.
        """
        if self.part not in (None, part):
            raise DataError(
                f"input {table}: the last run read another table of this name, or had another input.filter or "
                "input.partitions, so what it left out would never be read; nothing was written, run once without "
                "input.changed_since and with output.mode: replace"
            )


def part_of(identity: str, filter_: str | None, partitions: Mapping[str, str | None]) -> str:
    """One text for these rows of the table `identity`, in hex."""
    chosen = [[name, value or ""] for name, value in sorted(partitions.items())]
    return digest("kvspark part", [identity, filter_ or "", chosen]).hex()


def number_of(version: str, kind: str, table: str) -> int | None:
    """The number in the words of a report, `version 12` say; None for `no version`.

    Raises:
        DataError: it is of another kind.
    """
    word, _, number = version.rpartition(" ")
    if word == kind and number.isdecimal():
        return int(number)
    if version == f"no {kind}":
        return None
    raise DataError(
        f"input {table}: the last run read {version} of it, and a {kind} was expected; nothing was written, run once without "
        "input.changed_since and with output.mode: replace"
    )


def added_files(
    now: Sequence[ListedFile], before: Sequence[ListedFile], since: str, table: str
) -> tuple[ListedFile, ...]:
    """The files of `now` that are not among those of `before`, which is `since`, in their order.

    Raises:
        DataError: a file of `before` is gone, or other rows of it are deleted: rows were changed, not only added.
    """
    there = {file.location: file for file in now}
    for old in before:
        name = old.location
        if name not in there or there[name].deleted != old.deleted:
            raise DataError(
                f"input {table}: since {since}, which the last run read, rows were changed or removed, or files rewritten ({name}); "
                "nothing was written, where rows change set output.mode: merge, or run once without input.changed_since and with "
                "output.mode: replace"
            )
    known = {file.location for file in before}
    return tuple(file for file in now if file.location not in known)
