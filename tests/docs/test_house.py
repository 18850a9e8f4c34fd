"""The picture of the house shows the folders and imports that there are."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.house import PICTURE, drawn
from tests.docs.layout import BOX, laid_out, needed, shelves, wrong
from tests.docs.pages import ROOT
from tests.docs.rooms import PUBLIC, House, house_in


def without_counts(picture: str) -> str:
    """The picture without how many files a folder has, which change every day."""
    return re.sub(r"\d+ files?<|#24292f|#cf222e", "", picture)


def test_the_picture_shows_the_house() -> None:
    """Mend it with: python -m tests.docs.house."""
    assert without_counts(PICTURE.read_text(encoding="utf-8")) == without_counts(
        drawn(house_in(ROOT))
    )


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkout of five modules, in which `cache` and `cache/seal` import each other."""
    sources = {
        "kvspark/__init__.py": "",
        "kvspark/errors.py": "",
        "kvspark/cache/cache.py": "from kvspark.cache.seal import base\n",
        "kvspark/cache/seal/base.py": "def f():\n    import kvspark.cache.cache\n",
        "kvspark/spark/scored.py": "import kvspark.cache.cache\nfrom kvspark.errors import X\n",
    }
    for name, text in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_of_functions_and_of_modules_by_name_count(small: Path) -> None:
    house = house_in(small)
    assert house.imports == {
        ("cache", "cache/seal"),
        ("cache/seal", "cache"),
        ("spark", "cache"),
        ("spark", "errors"),
    }
    assert house.files == {"cache": 1, "cache/seal": 1, "spark": 1, "errors": 1}


def test_a_circle_and_an_import_that_goes_up_are_wrong(small: Path) -> None:
    circle = {("cache", "cache/seal"), ("cache/seal", "cache")}
    assert wrong(house_in(small)) == circle
    (small / "kvspark/errors.py").write_text("from kvspark.spark import scored\n", encoding="utf-8")
    assert wrong(house_in(small)) == circle | {("errors", "spark")}


def test_no_folder_imports_one_above_it_nor_in_a_circle() -> None:
    """A folder's own files count together, and so do imports for types.

    `spark/session` asks another Python for its kvspark, by the name that is always there.
    """
    assert wrong(house_in(ROOT)) == {("spark/session", PUBLIC)}


def test_a_room_stands_below_those_that_import_it() -> None:
    rooms = ["cache", "cache/entry", "cache/stage"]
    imports = {("cache", "cache/stage"), ("cache/stage", "cache/entry"), ("cache", "cache/entry")}
    house = House([("cache", rooms)], dict.fromkeys(rooms, 1), imports)
    assert shelves(house, 0) == [["cache"], ["cache/stage"], ["cache/entry"]]
    assert needed(imports) == imports - {("cache", "cache/entry")}


def test_an_arrow_passes_the_boxes_between_its_ends() -> None:
    rooms = ["a", "b", "c", "d"]
    imports = {("a", "b"), ("b", "c"), ("c", "d"), ("a", "x"), ("x", "d")}
    layout = laid_out(House([("a", [*rooms, "x"])], {}, imports), 0, 500)
    way = layout.ways["x", "d"]
    left = layout.boxes["c"][0]
    assert len(way) == 4
    assert all(not left <= x <= left + BOX for x, _ in way[1:3])


def test_a_folder_of_more_than_twelve_files_is_red() -> None:
    house = House([("a", ["a"]), ("b", ["b"]), (PUBLIC, [PUBLIC])], {"a": 12, "b": 13}, set())
    red = re.findall(r'fill="#cf222e">(.+?)<', drawn(house))
    assert red == ["13 files"]
