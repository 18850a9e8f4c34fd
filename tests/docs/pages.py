"""What a page of the documentation says: its headings, its links, and the files that it names."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [
        ROOT / "README.md",
        *DOCS.rglob("*.md"),
        *ROOT.glob("kvspark/README.md"),
        *ROOT.glob("conf/*/*.md"),
    ]
)

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(r"^ {4}.*$", re.MULTILINE)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_FILE = re.compile(r"`((?:kvspark|tests|conf|jobs|notebooks|docs|\.ci)/[\w./-]*)`")


def name(page: Path) -> str:
    """The page's path in the repository."""
    return str(page.relative_to(ROOT))


@cache
def prose(page: Path) -> str:
    """The page without its blocks of code."""
    return _INDENTED.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))


def headings(page: Path) -> list[tuple[int, str]]:
    """Level and text of each heading, in order."""
    found = re.findall(r"^(#+) (.+)$", prose(page), re.MULTILINE)
    return [(len(marks), text) for marks, text in found]


def anchors(page: Path) -> set[str]:
    """What `#...` of a link may name there, as GitHub writes it."""
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for _, text in headings(page)}


def links(page: Path) -> list[str]:
    """Where its links go, those into the web left out."""
    return [link for link in _LINK.findall(prose(page)) if "://" not in link]


def files(page: Path) -> list[str]:
    """Paths of this repository that the page names in backticks."""
    return _FILE.findall(prose(page))


def rows(page: Path, header: str) -> list[list[str]]:
    """The cells of the table below the row `header`."""
    _, found, rest = page.read_text(encoding="utf-8").partition(f"{header}\n")
    assert found, f"{name(page)} has no table {header}"
    table = rest.split("\n\n", 1)[0].splitlines()[1:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]
