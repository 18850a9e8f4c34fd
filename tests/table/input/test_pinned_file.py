"""A file is what was found while its size and its time are those, however many digits of the time are seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvspark.errors import DataError
from kvspark.table.input.pinned_file import PinnedPath
from kvspark.table.input.pinning import check_unchanged
from kvspark.table.objects.objects import ObjectChangedError

NOW_NS = 1_764_460_801_123_456_789
UNITS_NS = [100, 1_000, 1_000_000, 1_000_000_000]


def at(path: Path, time_ns: int) -> PinnedPath:
    os.utime(path, ns=(time_ns, time_ns))
    return PinnedPath.at(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "rows").write_bytes(b"rows")
    return tmp_path / "rows"


@pytest.mark.parametrize("unit_ns", UNITS_NS)
@pytest.mark.parametrize("is_found_rounded", [True, False])
def test_a_server_that_rounds_the_time_of_a_file_has_not_changed_it(
    path: Path, unit_ns: int, *, is_found_rounded: bool
) -> None:
    """A worker sees what the server keeps, and the driver that wrote it what it wrote, or the other way round."""
    times = (NOW_NS // unit_ns * unit_ns, NOW_NS)
    found_ns, later_ns = times if is_found_rounded else times[::-1]
    found = at(path, found_ns)
    at(path, later_ns)
    assert found.open().read() == b"rows"
    check_unchanged([found])


@pytest.mark.parametrize(
    "later_ns", [NOW_NS + 1, NOW_NS + 10**9, (NOW_NS // 10**9 + 1) * 10**9 + 10**9, NOW_NS - 10**6]
)
def test_a_file_of_another_time_has_changed(path: Path, later_ns: int) -> None:
    found = at(path, NOW_NS)
    at(path, later_ns)
    with pytest.raises(ObjectChangedError, match="was written after the run had found it"):
        found.open()
    with pytest.raises(DataError, match="changed while the run read it"):
        check_unchanged([found])


def test_a_file_of_another_size_has_changed_whatever_its_time(path: Path) -> None:
    found = at(path, NOW_NS)
    path.write_bytes(b"more rows")
    at(path, NOW_NS)
    with pytest.raises(ObjectChangedError):
        found.open()


def test_a_file_that_is_gone_is_named(path: Path) -> None:
    found = PinnedPath.at(path)
    path.unlink()
    with pytest.raises(DataError, match=r"rows changed while the run read it"):
        check_unchanged([found])
