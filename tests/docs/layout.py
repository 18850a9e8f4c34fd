"""Where each box of a band stands, and which way its arrows take: rows, and lanes between boxes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

from tests.docs.rooms import House

Edge = tuple[str, str]
Point = tuple[int, int]
Item = str | tuple[Edge, int]
"""What stands in a row: a room, or an arrow that passes it."""

BOX, LANE, GAP, HIGH, ROW = 142, 8, 14, 36, 62
"""In pixels: a box's width, that of a lane for an arrow beside it, between them; a box's height, from row to row."""
MOST = 6
"""Boxes in a row."""


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """One band, its top at 0."""

    boxes: dict[str, Point]
    """The upper left corner of each room."""
    ways: dict[Edge, list[Point]]
    """Of each arrow that goes down: where it begins, each end of the lanes that it takes, where it ends."""
    high: int


def reached(imports: Iterable[tuple[str, str]], start: str) -> set[str]:
    """All rooms that `start` imports, directly or not."""
    known: set[str] = set()
    edge = [start]
    while edge:
        room = edge.pop()
        more = {below for above, below in imports if above == room} - known
        known |= more
        edge += more
    return known


def wrong(house: House) -> set[tuple[str, str]]:
    """Imports that go up, or that are part of a circle in their band."""
    return {
        (above, below)
        for above, below in house.imports
        if house.band_of(above) > house.band_of(below)
        or (
            house.band_of(above) == house.band_of(below)
            and above in reached(within(house, house.band_of(above)), below)
        )
    }


def within(house: House, band: int) -> set[tuple[str, str]]:
    """The imports between rooms of one band."""
    rooms = set(house.bands[band][1])
    return {(above, below) for above, below in house.imports if {above, below} <= rooms}


def needed(imports: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """`imports` without those that follow from others; all of a graph with circles."""
    return {
        (above, below)
        for above, below in imports
        if not any(
            (above, between) in imports and below in reached(imports - {(above, below)}, between)
            for between in {to for of, to in imports if of == above} - {below}
        )
    }


def shelves(house: House, band: int) -> list[list[str]]:
    """The rooms of a band in rows: a room stands below all that import it, circles left aside."""
    straight = within(house, band) - wrong(house)
    rank = dict.fromkeys(house.bands[band][1], 0)
    for _ in rank:
        for above, below in straight:
            rank[below] = max(rank[below], rank[above] + 1)
    rows: list[list[str]] = []
    for level in sorted(set(rank.values())):
        rooms = sorted(room for room in rank if rank[room] == level)
        rows += [rooms[start : start + MOST] for start in range(0, len(rooms), MOST)]
    return rows


def laid_out(house: House, band: int, middle: int) -> Layout:
    """The band's boxes and arrows around the vertical line x = `middle`."""
    rows = shelves(house, band)
    row_of = {room: place for place, row in enumerate(rows) for room in row}
    arrows = sorted(needed(within(house, band) - wrong(house)))
    centres: dict[Item, int] = {}
    for place, row in enumerate(rows):
        passing = [(edge, place) for edge in arrows if row_of[edge[0]] < place < row_of[edge[1]]]
        items: list[Item] = [*row, *passing]
        above = {item: _centres_above(item, arrows, row_of, centres) for item in items}
        order = sorted(above, key=lambda item: above[item] or middle)
        widths = [BOX if isinstance(item, str) else LANE for item in order]
        left = middle - (sum(widths) + GAP * (len(order) - 1)) // 2
        for item, width in zip(order, widths, strict=True):
            centres[item] = left + width // 2
            left += width + GAP
    boxes = {room: (centres[room] - BOX // 2, row_of[room] * ROW) for room in row_of}
    ways = {edge: _way(edge, row_of, centres) for edge in arrows}
    return Layout(boxes, ways, (len(rows) - 1) * ROW + HIGH)


def _centres_above(
    item: Item,
    arrows: list[Edge],
    row_of: dict[str, int],
    centres: dict[Item, int],
) -> float:
    """The mean of where the arrows to `item` come from; 0 where none does."""
    if isinstance(item, str):
        coming = [(edge, row_of[item] - 1) for edge in arrows if edge[1] == item]
    else:
        coming = [(item[0], item[1] - 1)]
    found = [centres.get(lane, centres[lane[0][0]]) for lane in coming]
    return sum(found) / len(found) if found else 0.0


def _way(edge: Edge, row_of: dict[str, int], centres: dict[Item, int]) -> list[Point]:
    above, below = edge
    way = [(centres[above], row_of[above] * ROW + HIGH)]
    for place in range(row_of[above] + 1, row_of[below]):
        x = centres[edge, place]
        way += [(x, place * ROW), (x, place * ROW + HIGH)]
    return [*way, (centres[below], row_of[below] * ROW)]
