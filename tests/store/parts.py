"""The values of a look-up that came in parts."""

from __future__ import annotations

from collections.abc import Iterable

from kvspark.store.value_table import Part, Scattered, Slab


def in_order(parts: Iterable[Part]) -> list[bytes | None]:
    """One value a key, in the order of the keys; fails if a key has two values, or none."""
    values: dict[int, bytes | None] = {}
    next_row = 0
    for part in parts:
        slab = part.part if isinstance(part, Scattered) else part
        if isinstance(part, Scattered):
            rows = part.places.tolist()
        else:
            rows = []
            while len(rows) < len(part):
                if next_row not in values:
                    rows.append(next_row)
                next_row += 1
        assert values.keys().isdisjoint(rows)
        values |= zip(rows, slab.values() if isinstance(slab, Slab) else slab, strict=True)
    assert values.keys() == {*range(len(values))}
    return [values[row] for row in range(len(values))]
