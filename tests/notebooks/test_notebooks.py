"""A notebook is shipped with its outputs, which are those of its cells; and it runs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

import kvspark
from tests.notebooks.kernel import ROOT, executed, source_digest

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

OF_A_MACHINE = re.compile(
    r"/tmp|/home|/root|/work|/usr|/var/|[A-Za-z]:\\\\|localhost|\b127\.|\d+\.\d+\.\d+\.\d+"
)
TROUBLE = re.compile(r"Traceback|degraded|Warning|WARN|ERROR|Exception|\x1b")
OURS = re.compile(r"\bkvspark\.(\w+)")


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


def outputs(path: Path) -> list[nbformat.NotebookNode]:
    return [output for cell in code_cells(path) for output in cell.outputs]


def text_of(output: nbformat.NotebookNode) -> str:
    return str(output.get("text", "")) + "".join(map(str, output.get("data", {}).values()))


def test_there_are_notebooks() -> None:
    assert [path.name for path in NOTEBOOKS][:1] == ["01_quickstart.ipynb"]


@EACH
def test_its_outputs_are_those_of_its_cells_in_their_order(path: Path) -> None:
    """Mend it with: python -m tests.notebooks."""
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert [cell.metadata["ran"] for cell in cells] == [source_digest(c.source) for c in cells]
    assert {output.output_type for output in outputs(path)} <= {
        "stream",
        "execute_result",
        "display_data",
    }
    nbformat.validate(nbformat.read(path, as_version=4))


@EACH
def test_its_outputs_hold_nothing_of_a_machine_and_no_trouble(path: Path) -> None:
    for output in outputs(path):
        assert not OF_A_MACHINE.search(re.sub(r"http://www\.w3\.org/\S*", "", text_of(output)))
        assert not TROUBLE.search(text_of(output))


@EACH
def test_its_pictures_are_drawn_within_it(path: Path) -> None:
    pictures = [
        html
        for output in outputs(path)
        if "<svg" in (html := str(output.get("data", {}).get("text/html", "")))
    ]
    assert len(pictures) >= 3
    for html in pictures:
        parser = HTMLParser()
        parser.feed(html)
        assert "<script" not in html
        assert "href" not in html


@EACH
def test_it_uses_public_names_alone(path: Path) -> None:
    for cell in code_cells(path):
        assert not re.search(r"(from|import) kvspark\.", cell.source)
        # Names of kvspark, but not what lies behind a dot in a text.
        assert set(OURS.findall(cell.source)) <= set(kvspark.__all__)


@pytest.mark.spark
@pytest.mark.redis
@pytest.mark.slow
@EACH
def test_it_runs_in_a_fresh_kernel_and_shows_what_is_shipped(path: Path, tmp_path: Path) -> None:
    ran = [cell for cell in executed(path, tmp_path).cells if cell.cell_type == "code"]
    for cell, shipped in zip(ran, code_cells(path), strict=True):
        assert kinds(cell) == kinds(shipped), cell.source


def kinds(cell: nbformat.NotebookNode) -> list[str]:
    """What a cell shows, without what changes from run to run."""
    shown = [output for output in cell.outputs if output.get("name") != "stderr"]
    return [" ".join([output.output_type, *sorted(output.get("data", {}))]) for output in shown]
