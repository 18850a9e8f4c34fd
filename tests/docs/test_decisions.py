"""Every decision is one page with a status, and the index has them all."""

from __future__ import annotations

import re

from tests.docs.decisions import INDEX, STATUS, decisions, with_index
from tests.docs.pages import ROOT, headings

DECISIONS = decisions()
REFERENCES = re.compile(r"\bD(\d{1,2})\b(?! = )")


def test_a_decision_has_a_number_of_its_own() -> None:
    numbers = [each.number for each in DECISIONS]
    assert numbers == sorted(set(numbers))
    assert all(each.page.name.startswith(f"{each.number:04d}-") for each in DECISIONS)


def test_a_decision_has_a_status() -> None:
    for each in DECISIONS:
        found = STATUS.fullmatch(each.status)
        assert found, each.page.name
        assert found[2] is None or int(found[2]) in {other.number for other in DECISIONS}


def test_a_decision_says_context_decision_consequences_and_what_was_measured() -> None:
    for each in DECISIONS:
        sections = [text for level, text in headings(each.page) if level == 2]
        assert sections[:3] == ["Context", "Decision", "Consequences"], each.page.name
        assert sections[3:] in ([], ["Measurements"]), each.page.name
        _, _, measured = each.page.read_text(encoding="utf-8").partition("## Measurements\n")
        assert bool(measured) == bool(re.search(r"^\|---", measured, re.MULTILINE)), each.page.name
        assert not measured or re.search(r"\d{4}-\d\d-\d\d|simulated", measured), each.page.name


def test_the_index_has_every_decision_as_its_page_says() -> None:
    """Mend it with: python -m tests.docs.decisions."""
    text = INDEX.read_text(encoding="utf-8")
    assert text == with_index(text)


def test_a_decision_that_a_source_names_is_there() -> None:
    numbers = {each.number for each in DECISIONS}
    for top in ("kvspark", "jobs", "docs"):
        for path in [*(ROOT / top).rglob("*.py"), *(ROOT / top).rglob("*.md")]:
            named = {int(number) for number in REFERENCES.findall(path.read_text(encoding="utf-8"))}
            assert named <= numbers, path
