"""Small tables and pictures as HTML, for notebooks: plain values in, text out.

On the ground floor, because models, caches, plans and counts all show themselves. Every text is escaped;
colours are a theme's own (`currentColor`) but for what a bar means. No scripts, no styles that reach
beyond, nothing from the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

GREEN, ORANGE, GREY = "#2a9d5c", "#e07b39", "#9aa0a6"
"""What was found, what was computed, what is neither; told apart in grey too, by their brightness."""

_CELL = "padding:2px 10px;border-bottom:1px solid rgba(128,128,128,.3);"
_BOX, _LINE, _GAP = 34, 48, 56
_LETTER = 7.2
"""Width of a letter of 12 px, about."""


def heading(title: str, *told: str) -> str:
    """A line: `title` in bold, and what is told of it."""
    return (
        f"<div><b>{escape(title)}</b>{''.join(f' &middot; {escape(t)}' for t in told if t)}</div>"
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """A table; all columns but the first `texts` hold numbers and stand at the right."""
    sides = ["left" if place < texts else "right" for place in range(len(head))]
    cells = [
        "".join(
            f'<{tag} style="{_CELL}text-align:{side}">{escape(cell)}</{tag}>'
            for cell, side in zip(row, sides, strict=True)
        )
        for tag, row in [("th", head), *(("td", row) for row in rows)]
    ]
    body = "".join(f"<tr>{each}</tr>" for each in cells)
    return f'<table style="border-collapse:collapse;font-size:90%;margin:4px 0">{body}</table>'


def bars(parts: Mapping[str, Sequence[tuple[str, float, str]]], *, width: int = 320) -> str:
    """A bar for each name, of parts (what, how many, colour) one after the other, all to one scale."""
    most = max((sum(value for _, value, _ in each) for each in parts.values()), default=0) or 1
    left = 12 + int(_LETTER * max((len(name) for name in parts), default=0))
    shapes = []
    for row, (name, each) in enumerate(parts.items()):
        y, x = 4 + 22 * row, float(left)
        shapes.append(_text(left - 8, y + 13, name, anchor="end"))
        for what, value, colour in each:
            long = width * value / most
            title = f"<title>{escape(f'{name}: {value:,.0f} {what}')}</title>"
            shapes.append(
                f'<rect x="{x:.1f}" y="{y}" width="{long:.1f}" height="16" fill="{colour}">{title}</rect>'
            )
            x += long
        told = ", ".join(f"{value:,.0f} {what}" for what, value, _ in each if value) or "nothing"
        shapes.append(_text(int(x) + 8, y + 13, told))
    told_width = 8 + int(_LETTER * 44)
    return _svg(left + width + told_width, 22 * len(parts) + 8, shapes)


def graph(nodes: Mapping[str, str], edges: Sequence[tuple[str, str]]) -> str:
    """Boxes from left to right: `nodes` maps a name to what stands below it; an input has an empty text.

    `edges` go from earlier nodes to later ones.
    """
    depth: dict[str, int] = {}
    for name in nodes:
        depth[name] = 1 + max((depth[a] for a, b in edges if b == name and a in depth), default=-1)
    columns: dict[int, list[str]] = {}
    for name, place in depth.items():
        columns.setdefault(place, []).append(name)
    wide = {
        place: 20 + int(_LETTER * max(max(len(n), len(nodes[n])) for n in names))
        for place, names in columns.items()
    }
    left = {place: sum(wide[p] + _GAP for p in range(place)) for place in columns}
    high = max((len(names) for names in columns.values()), default=1) * _LINE
    at = {
        name: (left[place], (high - len(names) * _LINE) // 2 + _LINE * row, wide[place])
        for place, names in columns.items()
        for row, name in enumerate(names)
    }
    shapes = [_arrow(at[start], at[end]) for start, end in edges]
    for name, (x, y, width) in at.items():
        dash = "" if nodes[name] else ' stroke-dasharray="4 3"'
        shapes.append(
            f'<rect x="{x + 1}" y="{y + 6}" width="{width}" height="{_BOX}" rx="5" fill="none" '
            f'stroke="currentColor"{dash}/>'
        )
        middle = x + width // 2
        shapes.append(
            _text(middle, y + (20 if nodes[name] else 27), name, anchor="middle", bold=True)
        )
        if nodes[name]:
            shapes.append(_text(middle, y + 34, nodes[name], anchor="middle", size=10))
    total = max((x + width for x, _, width in at.values()), default=0) + 2
    return _svg(total, high + 6, shapes)


def _arrow(start: tuple[int, int, int], end: tuple[int, int, int]) -> str:
    x1, y1 = start[0] + start[2] + 1, start[1] + 6 + _BOX // 2
    x2, y2 = end[0] + 1, end[1] + 6 + _BOX // 2
    bend = (x1 + x2) // 2
    return (
        f'<path d="M{x1} {y1} C{bend} {y1} {bend} {y2} {x2 - 5} {y2}" fill="none" stroke="currentColor" '
        f'opacity=".6"/><path d="M{x2 - 6} {y2 - 4} L{x2} {y2} L{x2 - 6} {y2 + 4} z" '
        'fill="currentColor" opacity=".6"/>'
    )


def _text(
    x: int, y: int, text: str, *, anchor: str = "start", bold: bool = False, size: int = 12
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" fill="currentColor"{weight}>'
        f"{escape(text)}</text>"
    )


def _svg(width: int, height: int, shapes: Sequence[str]) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" role="img" '
        f'style="max-width:100%">{"".join(shapes)}</svg>'
    )
