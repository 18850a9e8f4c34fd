"""The documentation holds together: headings, links, files, names, and numbers in one place."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import kvspark
from kvspark.config.reading.load import load_job_config
from kvspark.report.topics import EXIT_CODES
from tests.docs.decisions import decisions
from tests.docs.pages import DOCS, PAGES, ROOT, anchors, files, headings, links, name, prose, rows

README = ROOT / "README.md"
ADR = DOCS / "adr"
MAX_README_LINES = 150
QUESTIONS = "| question | page | file |"
NIGHTS = "| | night 1 | night 2 | night 3, new head |"
MEASURED = re.compile(r"\d[\d,.]*\s?(us|µs|microseconds?|rows/s|tokens/s|[GM]B/s)\b")


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def test_a_page_has_one_title_and_no_level_is_left_out() -> None:
    for page in PAGES:
        levels = [level for level, _ in headings(page)]
        assert (levels[0], levels.count(1)) == (1, 1), name(page)
        assert all(below - above <= 1 for above, below in pairwise(levels)), name(page)


def test_a_heading_is_said_once_on_its_page() -> None:
    for page in PAGES:
        texts = [text for _, text in headings(page)]
        assert sorted(set(texts)) == sorted(texts), name(page)


def test_a_link_leads_to_a_file_and_a_heading() -> None:
    wrong = []
    for page in PAGES:
        for link in links(page):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                wrong.append(f"{name(page)}: {link}")
    assert wrong == []


def test_a_file_that_is_named_is_there() -> None:
    """Decisions that hold no longer may name what is gone."""
    past = {each.page for each in decisions() if not each.status.startswith("accepted")}
    wrong = [
        f"{name(page)}: {path}"
        for page in PAGES
        if page not in past
        for path in files(page)
        if not (ROOT / path).exists()
    ]
    assert wrong == []


def test_every_page_is_listed_with_the_question_that_it_answers() -> None:
    listed = {cells[0]: cells[1] for cells in rows(DOCS / "README.md", "| page | question |")}
    for page in sorted(DOCS.glob("*.md")):
        if page.name != "README.md":
            asked = listed.pop(f"[{page.name}]({page.name})")
            assert page.read_text(encoding="utf-8").split("\n\n")[1] == f"*{asked}*"
    assert list(listed) == ["[adr/](adr/README.md)"]


def test_a_newcomer_has_thirteen_questions_each_with_a_heading_and_a_file() -> None:
    asked = rows(DOCS / "README.md", QUESTIONS)
    assert len(asked) == 13
    for question, page, file in asked:
        assert question.endswith("?")
        assert re.fullmatch(r"\[.+\]\([\w./-]+\.md#[\w-]+\)", page), question
        assert re.search(r"`kvspark/[\w/]+\.py`", file), question


def test_measured_numbers_stand_in_the_benchmarks_and_decisions_only() -> None:
    for page in PAGES:
        if page.parent != ADR and page.name != "benchmarks.md":
            assert [found[0] for found in MEASURED.finditer(prose(page))] == [], name(page)
    assert rows(README, NIGHTS) == rows(DOCS / "benchmarks.md", NIGHTS)


def test_the_page_of_public_names_has_those_of_the_package_and_no_other() -> None:
    told = [cells[0].strip("`") for cells in rows(DOCS / "api.md", "| name | what it is |")]
    assert told == kvspark.__all__


def test_every_exit_code_is_told_and_no_other() -> None:
    told = rows(DOCS / "operations.md", "| exit code | meaning | retry? |")
    assert [int(code) for cells in told for code in cells[0].split(", ")] == sorted(EXIT_CODES)


def test_the_conf_of_the_readme_is_a_job(tmp_path: Path) -> None:
    (conf,) = re.findall(r"^```yaml\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "score.yaml").write_text(conf, encoding="utf-8")
    config = load_job_config(tmp_path / "score.yaml", environ={})
    assert config.cache is not None
    assert config.cache.namespace == "churn"
