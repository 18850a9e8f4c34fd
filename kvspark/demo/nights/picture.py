"""The nights as a bar chart, written as SVG without any drawing library."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final
from xml.sax.saxutils import escape, quoteattr

from kvspark.demo.nights.outcome import Outcome

WIDTH = 860
_LABELS = 260
"""Pixels left of the bars."""
_VALUES = 90
"""Pixels right of the longest bar, for its number."""
_BAR = 18
_GAP = 4
_MOST_LETTERS = 34
"""What fits left of the bars in most fonts."""
_CACHED, _PLAIN, _INK, _QUIET = "#0b7285", "#ced4da", "#212529", "#5c636a"


@final
@dataclass(frozen=True, slots=True)
class _Bar:
    label: str
    value: float
    text: str
    is_plain: bool = False
    """A bar to compare with: grey, and the last of its group."""


def picture(outcomes: Sequence[Outcome]) -> str:
    """An SVG document: seconds with and without the cache, and rows computed by the trunk."""
    panels = (
        ("Seconds of the whole job", list(_seconds(outcomes))),
        ("Rows that went through the trunk", [_trunk_rows(outcome) for outcome in outcomes]),
    )
    top, parts = 28, list[str]()
    for title, bars in panels:
        drawn, top = _panel(title, bars, top)
        parts += drawn
    alt = "; ".join(
        f"{o.name}: {o.seconds:.1f} s, {o.stages['trunk'].computed:,} rows" for o in outcomes
    )
    frame = f'width="{WIDTH}" height="{top}"'
    font = 'font-family="system-ui, sans-serif" font-size="13"'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {frame} {font} role="img">'
    ground = f'<rect {frame} fill="#ffffff"/>'
    return "\n".join([svg, f"<title>{escape(alt)}</title>", ground, *parts, "</svg>\n"])


def _seconds(outcomes: Sequence[Outcome]) -> Iterator[_Bar]:
    for outcome in outcomes:
        yield _Bar(_short(outcome.name), outcome.seconds, f"{outcome.seconds:.1f} s")
        off = outcome.seconds_cache_off
        yield _Bar("the same without the cache", off, f"{off:.1f} s", is_plain=True)


def _trunk_rows(outcome: Outcome) -> _Bar:
    computed = outcome.stages["trunk"].computed
    return _Bar(_short(outcome.name), computed, f"{computed:,}")


def _short(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 1]}…"


def _panel(title: str, bars: Sequence[_Bar], top: int) -> tuple[list[str], int]:
    """One group of bars under its title, and where the next one starts."""
    longest = max(bar.value for bar in bars) or 1.0
    parts = [_text(20, top, title, _INK, 'font-size="15" font-weight="600"')]
    top += 14
    for bar in bars:
        # A line, where there is nothing to fill: zero is a result too.
        width = max(1.5, bar.value / longest * (WIDTH - _LABELS - _VALUES))
        colour, ink = (_PLAIN, _QUIET) if bar.is_plain else (_CACHED, _INK)
        box = f'x="{_LABELS}" y="{top}" width="{width:.1f}" height="{_BAR}"'
        baseline = top + _BAR * 0.74
        parts += [
            _text(_LABELS - 10, baseline, bar.label, ink, 'text-anchor="end"'),
            f'<rect {box} rx="2" fill="{colour}"/>',
            _text(_LABELS + width + 8, baseline, bar.text, ink),
        ]
        top += _BAR + _GAP * (3 if bar.is_plain else 1)
    return parts, top + 36


def _text(x: float, y: float, text: str, colour: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill={quoteattr(colour)} {more}>{escape(text)}</text>'
