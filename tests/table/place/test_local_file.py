"""What a file on a disk holds, and when the disk hears of it."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from kvspark.table.place.local_file import LocalFile


def test_the_disk_is_asked_to_begin_with_each_byte_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    written = [0]

    def advise(fd: int, first: int, size: int, advice: int) -> None:
        assert advice == os.POSIX_FADV_DONTNEED
        assert os.fstat(fd).st_size == first + size == written[0]
        asked.append((first, size))

    monkeypatch.setattr(os, "posix_fadvise", advise)
    file = LocalFile(tmp_path / "file")
    sent = [os.urandom(size) for size in (9 << 20, 9 << 20, 5, 20 << 20, 0, 7)]
    for each in sent:
        written[0] += len(each)
        file.write(pa.py_buffer(each))
    before_close = len(asked)
    file.close()
    assert 0 < before_close < len(asked)
    ends = [first + size for first, size in asked]
    assert [first for first, _ in asked] == [0, *ends[:-1]]
    assert (tmp_path / "file").read_bytes() == b"".join(sent)
    assert ends[-1] == sum(map(len, sent))


def test_a_system_without_such_advice_writes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    file = LocalFile(tmp_path / "file")
    file.write(b"a" * (17 << 20))
    file.close()
    assert (tmp_path / "file").stat().st_size == 17 << 20


def test_nothing_is_left_of_a_file_that_was_abandoned(tmp_path: Path) -> None:
    file = LocalFile(tmp_path / "file")
    file.write(b"a")
    file.abandon()
    assert list(tmp_path.iterdir()) == []
    file.close()
    assert list(tmp_path.iterdir()) == []
