"""The pages of docs/adr, and their index: `python -m tests.docs.decisions` writes it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import final

from tests.docs.pages import DOCS

FOLDER = DOCS / "adr"
INDEX = FOLDER / "README.md"
HEADER = "| number | decision | status |"
STATUS = re.compile(r"(accepted|withdrawn|superseded by (\d{4})), \d{4}-\d\d-\d\d(; .+)?")


@final
@dataclass(frozen=True, slots=True)
class Decision:
    """One page."""

    page: Path
    number: int
    title: str
    status: str


def decisions() -> list[Decision]:
    """Every page of the folder, by number."""
    return [_read(page) for page in sorted(FOLDER.glob("[0-9]*.md"))]


def _read(page: Path) -> Decision:
    text = page.read_text(encoding="utf-8")
    found = re.match(r"# (\d{4})\. (.+)\n\nStatus: (.+)\n", text)
    assert found, f"{page.name} does not begin with a number, a title and a status"
    return Decision(page, int(found[1]), found[2], found[3])


def with_index(text: str) -> str:
    """`text` with a line for each decision in its table."""
    before, _, _ = text.partition(HEADER)
    lines = [
        f"| {each.number:04d} | [{each.title}]({each.page.name}) | {each.status} |"
        for each in decisions()
    ]
    return "\n".join([before + HEADER, "|---|---|---|", *lines]) + "\n"


if __name__ == "__main__":
    INDEX.write_text(with_index(INDEX.read_text(encoding="utf-8")), encoding="utf-8")
