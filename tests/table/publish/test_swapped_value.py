"""Values in HDFS that are written on a condition: of several writers one wins, and readers find one value, whole."""

from __future__ import annotations

import secrets

import pytest

from kvspark.table.hdfs.hdfs_files import HdfsFiles
from kvspark.table.hdfs.hdfs_objects import HdfsObjects
from kvspark.table.objects.objects import ObjectChangedError
from kvspark.table.objects.storage import Storage
from tests.hdfs_server import HdfsServer


@pytest.fixture
def url(hdfs: HdfsServer) -> str:
    return f"{hdfs.url}/{secrets.token_hex(4)}/table"


def test_of_all_that_have_read_one_value_one_writes_and_no_later_one_that_was_slow(
    url: str,
) -> None:
    store = HdfsObjects(Storage(url))
    first = store.put_if("notes/value", b"1", None)
    with pytest.raises(ObjectChangedError):
        store.put_if("notes/value", b"other", None)
    tags = [first]
    for number in range(2, 6):
        tags.append(store.put_if("notes/value", str(number).encode(), tags[-1]))
    for old in tags[:-1]:
        with pytest.raises(ObjectChangedError, match="was changed by another run"):
            store.put_if("notes/value", b"late", old)
    there = store.get("notes/value")
    assert there is not None
    assert (there.data, there.tag) == (b"5", tags[-1])
    # What did not win lies there until somebody wins again, and no longer.
    store.put_if("notes/value", b"6", tags[-1])
    assert len(list(store.listed("notes"))) == 2


def test_who_has_written_leaves_what_the_next_writer_is_about_to_write(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, files = HdfsObjects(Storage(url)), HdfsFiles(Storage(url))
    tag = store.put_if("value", b"1", None)
    move = HdfsFiles.move
    next_one: list[str] = []

    def and_another_begins(own: HdfsFiles, path: str, to: str, *, replaces: bool = False) -> None:
        move(own, path, to, replaces=replaces)
        next_one.append("value/00000003-next")
        files.write(next_one[0], b"3")

    with monkeypatch.context() as busy:
        busy.setattr(HdfsFiles, "move", and_another_begins)
        tag = store.put_if("value", b"2", tag)
    assert files.read(next_one[0]) == b"3"
    store.put_if("value", b"4", tag)
    assert files.status(next_one[0]) is None


def test_a_reader_between_two_values_finds_one_of_them(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = HdfsObjects(Storage(url))
    tags = [store.put_if("value", b"old", None)]
    read = HdfsFiles.read

    def after_another(files: HdfsFiles, path: str) -> bytes:
        if len(tags) == 1:
            tags.append(store.put_if("value", b"new", tags[0]))
        return read(files, path)

    monkeypatch.setattr(HdfsFiles, "read", after_another)
    there = store.get("value")
    assert len(tags) == 2
    assert there is not None
    assert (there.data, there.tag) == (b"new", tags[1])


def test_a_plain_file_is_read_and_not_written_over(url: str) -> None:
    store = HdfsObjects(Storage(url))
    store.put("value", b"copied")
    there = store.get("value")
    assert there is not None
    assert there.data == b"copied"
    with pytest.raises(OSError, match="is a plain file, which no run wrote here"):
        store.put_if("value", b"new", there.tag)
