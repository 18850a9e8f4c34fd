"""What a stage is given for some rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from kvspark.infer.compute.bad_row_rule import BadRowRule
from kvspark.infer.compute.row_lengths import RowLengths
from kvspark.infer.compute.values import Values, taken
from kvspark.infer.rows.bad_rows import BadRow, Indices, Lengths, bad_at
from kvspark.infer.rows.columns import Column
from kvspark.model.stage.stage import Stage
from kvspark.spec import LengthRule


@final
@dataclass(frozen=True, slots=True)
class Given:
    """The arguments of `count` rows; made by `given_rows`."""

    arguments: Sequence[Any]
    """In the order of the stage's sources: an array (n, *shape), a list of n arrays, or a list of n texts."""
    lengths: Lengths | None
    count: int
    bad: dict[int, BadRow]
    """Rows that are bad before the stage sees them."""
    upstream_s: float = 0.0
    """Seconds that the results of the stages before took, looked up or computed."""

    def take(self, rows: Indices) -> Given:
        """Of the rows at these places."""
        return Given(
            [taken(argument, rows) for argument in self.arguments],
            None if self.lengths is None else self.lengths[rows],
            len(rows),
            bad_at(self.bad, rows),
            self.upstream_s * len(rows) / max(1, self.count),
        )

    def apart(self) -> tuple[Indices, Indices]:
        """The rows that can be computed, and those that are bad."""
        rows = np.arange(self.count)
        is_bad = np.isin(rows, list(self.bad))
        return rows[~is_bad], rows[is_bad]


def given_rows(
    stage: Stage,
    columns: Mapping[str, Column],
    results: Sequence[tuple[Stage, Values]],
    count: int,
    length_rule: LengthRule,
    rule: BadRowRule,
) -> Given:
    """What `stage` takes of the inputs `columns`, and of the `results` of the stages before it.

    Raises:
        RowError: a row is bad, two of its inputs have different lengths say, and `rule` does not set it aside.
    """
    bad: dict[int, BadRow] = {}
    for _, values in results:
        bad.update({row: why for row, why in values.bad.items() if row not in bad})
    made = {
        (upstream.name, spec.name): (values, position)
        for upstream, values in results
        for position, spec in enumerate(upstream.outputs)
    }
    arguments: list[object] = []
    lengths = RowLengths(length_rule)
    for source in stage.sources:
        if source.stage is None:
            column = columns[source.tensor.name]
            arguments.append(column.argument())
            own = column.lengths
        else:
            values, position = made[source.stage, source.tensor.name]
            arguments.append(values.columns[position])
            own = values.lengths if None in source.tensor.shape else None
        lengths.add(source, own)
    for row, why in lengths.wrong().items():
        rule.found(row, why, bad)
    return Given(arguments, lengths.first, count, bad)
