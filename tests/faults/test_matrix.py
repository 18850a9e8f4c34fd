"""No row of the matrix is passed over in silence: a test stands for it, or its reason is told."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest

from tests.faults.matrix import NOT_HERE, ROWS

TESTS = Path(__file__).parents[1]
NAMING = {"covers", "CacheRow", "_wire", "_server"}


def named() -> dict[str, set[str]]:
    """The files that name each row, by what decorates a test or makes a fault for one."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in TESTS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in NAMING:
                for argument in node.args:
                    if isinstance(argument, ast.Constant) and argument.value in ROWS:
                        found[argument.value].add(path.name)
    return found


@pytest.fixture(scope="module")
def files() -> dict[str, set[str]]:
    return named()


@pytest.mark.parametrize("row", ROWS)
def test_a_row_has_a_test_or_a_reason(row: str, files: dict[str, set[str]]) -> None:
    assert files.get(row) or NOT_HERE.get(row)


def test_a_reason_is_given_only_where_there_is_no_test(files: dict[str, set[str]]) -> None:
    assert NOT_HERE.keys() <= ROWS.keys()
    assert not NOT_HERE.keys() & files.keys()


def test_every_row_is_there() -> None:
    assert list(ROWS) == [f"F{n}" for n in range(1, 46)] + [f"B{n}" for n in range(1, 24)]
