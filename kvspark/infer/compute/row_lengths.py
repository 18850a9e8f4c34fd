"""The lengths of rows: one for all inputs of a row, or several where the model has several."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, final

import numpy as np

from kvspark.infer.rows.bad_rows import INPUT, BadRow, Indices, Lengths
from kvspark.model.stage.stage import Source
from kvspark.spec import LengthRule


@final
class RowLengths:
    """The lengths of some rows, input by input, held against what the model takes."""

    def __init__(self, rule: LengthRule) -> None:
        self._rule = rule
        self._known: list[tuple[Source, int, Lengths]] = []
        """Each input, its group, and its lengths."""

    @property
    def first(self) -> Lengths | None:
        """Those of the first input that varies; None if none does."""
        return self._known[0][2] if self._known else None

    def add(self, source: Source, own: Lengths | None) -> None:
        """Takes down that the rows have the lengths `own` in `source`, None where it does not vary."""
        if own is None:
            return
        group = self._rule.group_of(source.tensor.name) if source.stage is None else 0
        self._known.append((source, group, own))

    def wrong(self) -> dict[int, BadRow]:
        """The rows whose lengths are none that the model takes."""
        bad: dict[int, BadRow] = {}
        of_group: dict[int, Lengths] = {}
        for source, group, own in self._known:
            other = of_group.setdefault(group, own)
            for row in np.flatnonzero(own != other):
                bad.setdefault(int(row), _unequal(source.tensor.name, own[row], other[row]))
        for source, group, own in self._known:
            differ = np.zeros(len(own), dtype=bool)
            for other in of_group.values():
                differ |= other != of_group[group]
            for is_apart, rows in ((False, ~differ), (True, differ)):
                is_only = len(of_group) == 1
                least, most = self._limits(group, is_only=is_only, is_apart=is_apart)
                outside = rows & ((own < least) | (own > (own if most is None else most)))
                for row in np.flatnonzero(outside):
                    bad.setdefault(
                        int(row), _outside(source, own[row], least, most, is_apart=is_apart)
                    )
        return bad

    def _limits(self, group: int, *, is_only: bool, is_apart: bool) -> tuple[int, int | None]:
        rule = self._rule
        if not (is_apart or (is_only and rule.groups)):
            return rule.shortest, rule.longest
        # None: the model itself refuses what is too long.
        most = rule.longest_apart[group] if rule.longest_apart else None
        return rule.shortest_apart if is_apart else rule.shortest, most


def apart(
    arguments: Sequence[Any],
    sources: Sequence[Source],
    rows: Indices,
    *,
    computed: Collection[str],
) -> tuple[Indices, Iterator[tuple[int, Indices]]]:
    """The `rows` whose inputs have one length, and those of each other set of lengths with the greatest of these."""
    varying = [
        argument
        for argument, source in zip(arguments, sources, strict=True)
        if None in source.tensor.shape and source.stage not in computed
    ]
    lengths = np.array([[len(argument[row]) for argument in varying] for row in rows], np.int64)
    lengths = lengths.reshape(len(rows), len(varying))
    differ = (lengths != lengths[:, :1]).any(axis=1)
    others, own = rows[differ], lengths[differ]
    found, places = np.unique(own, axis=0, return_inverse=True)
    places = places.reshape(-1)
    return rows[~differ], (
        (int(each.max()), others[places == place]) for place, each in enumerate(found)
    )


def _bad(message: str) -> BadRow:
    return BadRow(INPUT, "WrongValue", message)


def _unequal(name: str, own: int, other: int) -> BadRow:
    return _bad(
        f"input {name!r} has length {own} where another input of the same row has {other}; inputs of varying "
        "length must agree"
    )


def _outside(
    source: Source, length: int, least: int, most: int | None, *, is_apart: bool
) -> BadRow:
    name = source.tensor.name
    what = f"input {name!r}" if source.stage is None else f"{name!r} of stage {source.stage!r}"
    where = " where another input of the same row has another length" if is_apart else ""
    to = "" if most is None else f" to {most}"
    return _bad(f"{what} has length {length}{where}; the model takes lengths from {least}{to}")
