"""Draws the house: a band for each layer, a box for each folder, an arrow for each import in a band.

python -m tests.docs.house                                    docs/house.svg, of the checkout
python -m tests.docs.house b24205e docs/house-before.svg      of a commit
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
from itertools import pairwise
from pathlib import Path

from tests.docs.layout import BOX, HIGH, Point, laid_out, wrong
from tests.docs.pages import DOCS, ROOT
from tests.docs.rooms import House, house_in

PICTURE = DOCS / "house.svg"
MAX_FILES = 12
"""In a folder; above it a box is red."""

WIDTH, LABEL, PAD, MARGIN = 1100, 130, 14, 11
_INK, _PALE, _RED, _BAND = "#24292f", "#f6f8fa", "#cf222e", "#eaeef2"
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
    'font-family="Helvetica, Arial, sans-serif" font-size="12">\n'
    '<rect width="{width}" height="{height}" fill="#ffffff"/>\n'
    "<defs>{markers}</defs>\n"
)
_MARKER = (
    '<marker id="{name}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0,0 L8,4 L0,8 z" fill="{ink}"/></marker>'
)
_LEGEND = (
    "A room may import all rooms of the bands below it. Arrows are the imports inside a band.",
    "Arrows that follow from others are left out. A red arrow goes up or in a circle.",
    "A red box is a folder of more than 12 files.",
)


def drawn(house: House) -> str:
    """The picture as SVG."""
    bands, arrows, top = [], [], PAD
    places: dict[str, Point] = {}
    for band, (label, _) in enumerate(house.bands):
        layout = laid_out(house, band, LABEL + (WIDTH - LABEL - PAD) // 2)
        start = top + MARGIN
        bands.append(_band(label, top, layout.high + 2 * MARGIN))
        places |= {room: (x, start + y) for room, (x, y) in layout.boxes.items()}
        arrows += [_arrow([(x, start + y) for x, y in way]) for way in layout.ways.values()]
        top += layout.high + 2 * MARGIN + 8
    arrows += [_wrong_arrow(places[above], places[below]) for above, below in sorted(wrong(house))]
    boxes = [_box(room, *places[room], house.files.get(room)) for room in places]
    legend = [_text(PAD, top + 16 + 16 * place, line) for place, line in enumerate(_LEGEND)]
    markers = _MARKER.format(name="down", ink=_INK) + _MARKER.format(name="wrong", ink=_RED)
    head = _HEAD.format(width=WIDTH, height=top + 60, markers=markers)
    return head + "\n".join([*bands, *arrows, *boxes, *legend, "</svg>"]) + "\n"


def _band(label: str, top: int, high: int) -> str:
    area = f'<rect x="{PAD}" y="{top}" width="{WIDTH - 2 * PAD}" height="{high}" rx="4" fill="{_BAND}"/>'
    words = label.split(" | ")
    start = top + high // 2 + 4 - 8 * (len(words) - 1)
    return "\n".join(
        [
            area,
            *(
                _text(
                    PAD + 10,
                    start + 16 * place,
                    word,
                    weight="normal" if word[0] == "(" else "bold",
                )
                for place, word in enumerate(words)
            ),
        ]
    )


def _box(room: str, left: int, top: int, files: int | None) -> str:
    ink = _RED if files is not None and files > MAX_FILES else _INK
    shown = room.split("/", 1)[-1]
    count = "__init__.py" if files is None else f"{files} file{'s' if files > 1 else ''}"
    middle = left + BOX // 2
    return (
        f'<rect x="{left}" y="{top}" width="{BOX}" height="{HIGH}" rx="4" fill="{_PALE}" stroke="{ink}"/>\n'
        + _text(middle, top + 15, shown, anchor="middle", weight="bold")
        + "\n"
        + _text(middle, top + 29, count, anchor="middle", ink=ink)
    )


def _arrow(way: list[Point]) -> str:
    curve = f"M{way[0][0]},{way[0][1]}"
    for (x, y), (to_x, to_y) in pairwise(way):
        bend = (to_y - y) // 2
        curve += f" C{x},{y + bend} {to_x},{to_y - bend} {to_x},{to_y}"
    return _path(curve, _INK, "down")


def _wrong_arrow(above: Point, below: Point) -> str:
    (left, top), (to_left, to_top) = above, below
    if to_top == top:  # A circle in one row, below the boxes.
        x, to_x, y = left + BOX // 2, to_left + BOX // 2, top + HIGH
        shift = 12 if to_x > x else -12
        curve = f"M{x + shift},{y} C{x + shift},{y + 26} {to_x - shift},{y + 26} {to_x - shift},{y}"
    else:  # At the side of the boxes.
        x, to_x, y, to_y = left + BOX, to_left + BOX, top + HIGH // 2, to_top + HIGH // 2
        curve = f"M{x},{y} C{x + 70},{y} {to_x + 70},{to_y} {to_x},{to_y}"
    return _path(curve, _RED, "wrong")


def _path(curve: str, ink: str, marker: str) -> str:
    return (
        f'<path d="{curve}" fill="none" stroke="{ink}" stroke-width="1.2" '
        f'marker-end="url(#{marker})"/>'
    )


def _text(
    x: int, y: int, words: str, *, anchor: str = "start", weight: str = "normal", ink: str = _INK
) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-weight="{weight}" fill="{ink}">{words}</text>'


def main(arguments: list[str]) -> None:
    """Draws the checkout, or the commit that is named, into the file that is named."""
    if not arguments:
        PICTURE.write_text(drawn(house_in(ROOT)), encoding="utf-8")
        return
    commit, target = arguments
    command = ["git", "archive", commit, "kvspark", "jobs", "pyproject.toml"]
    packed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    with (
        tempfile.TemporaryDirectory() as folder,
        tarfile.open(fileobj=io.BytesIO(packed)) as archive,
    ):
        archive.extractall(folder, filter="data")
        Path(target).write_text(drawn(house_in(Path(folder))), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
