"""Segments in files: what one process writes others find, and no fault of a file is more than a miss."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from pathlib import Path
from typing import final

import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import fs
from typing_extensions import override

from kvspark.errors import StoreFullError, StoreRefusedError, StoreUnavailableError
from kvspark.store.base import Store
from kvspark.store.deadline import NEVER
from kvspark.store.files.cold import ColdStore
from kvspark.store.files.compaction import Compaction, compact
from kvspark.store.files.segment import DELETED_MS, NEVER_MS, Record, hashes_of, packed
from kvspark.store.files.segment_folder import SUFFIX, Folder, store_error
from kvspark.store.redis_error import is_timeout
from tests.store.calls import PATIENT_S, delete, get_many, ping, scanned, set_many
from tests.store.clock import Clock
from tests.store.store_contract import ANY_BYTES, StoreContract
from tests.store.test_stateful import check

TIMEOUT_S = 0.4
SLACK_S = 2.0
"""What a busy machine may add to a bound."""


def connect(folder: Path, **options) -> ColdStore:
    return ColdStore(Folder.at(folder.as_uri()), **options)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


class TestColdStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = connect(tmp_path / "cold")
        yield store
        store.close()

    def test_a_forked_child_and_its_parent_both_go_on(self, store, key):
        """What is not written yet is its process's own: TestColdStoreFromFiles has what is."""


@final
class Drained(Store):
    """Writes a segment after each call, so that what is read comes from files."""

    def __init__(self, store: ColdStore) -> None:
        self._store = store

    @override
    def read(self, windows, deadline, *, value_bytes=0):
        yield from self._store.read(windows, deadline)

    @override
    def write(self, windows, deadline, *, ttl_s):
        for taken in self._store.write(windows, deadline, ttl_s=ttl_s):
            assert self._store.drain() == {}
            yield taken

    @override
    def delete(self, keys, deadline):
        return self._store.delete(keys, deadline)

    @override
    def scan(self, prefix, *, each_s):
        return self._store.scan(prefix, each_s=each_s)

    @override
    def ping(self, deadline):
        self._store.ping(deadline)

    @override
    def close(self):
        self._store.close()


class TestColdStoreFromFiles(StoreContract):
    @pytest.fixture
    def store(self, tmp_path):
        store = Drained(connect(tmp_path / "cold"))
        yield store
        store.close()


def test_files_are_a_dictionary(tmp_path):
    store = Drained(connect(tmp_path / "cold"))
    check(store)
    store.close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cold"


def written(folder: Path, entries: dict[bytes, bytes], *, ttl_s: float | None = None) -> None:
    """One more segment with `entries`."""
    store = connect(folder)
    assert set_many(store, list(entries.items()), ttl_s=ttl_s) == len(entries)
    assert store.drain() == {}
    store.close()


def test_nothing_is_made_before_something_is_written(folder):
    store = connect(folder)
    assert get_many(store, [b"a"]) == [None]
    assert store.drain() == {}
    assert not folder.exists()


def test_what_a_task_wrote_others_find_when_it_has_ended(folder):
    ours, theirs = connect(folder), connect(folder)
    set_many(ours, [(b"a", ANY_BYTES), (b"b", b"")], ttl_s=60)
    assert segments(folder) == []
    assert ours.drain() == {}
    assert len(segments(folder)) == 1
    assert get_many(theirs, [b"b", b"c", b"a"]) == [b"", None, ANY_BYTES]
    assert not [path for path in folder.iterdir() if path.suffix != SUFFIX]


def test_a_full_segment_is_written_while_the_task_goes_on(folder):
    store = connect(folder, segment_bytes=100_000)
    for row in range(100):
        assert set_many(store, [(b"%d" % row, bytes(10_000))], ttl_s=60) == 1
        store._shelf._own._writes.wait(NEVER)
    assert len(segments(folder)) >= 9
    assert get_many(store, [b"%d" % row for row in range(100)]) == [bytes(10_000)] * 100
    store.close()
    assert get_many(connect(folder), [b"3", b"99"]) == [bytes(10_000)] * 2


def test_the_newest_segment_counts(folder):
    written(folder, {b"a": b"1", b"b": b"1"})
    written(folder, {b"a": b"2"})
    assert get_many(connect(folder), [b"a", b"b"]) == [b"2", b"1"]


def test_an_entry_ends_in_its_segment_as_well(folder):
    payload = packed({b"a": Record(b"1", 1), b"b": Record(b"2", NEVER_MS)})
    folder.mkdir()
    (folder / f"1-x{SUFFIX}").write_bytes(payload)
    assert get_many(connect(folder), [b"a", b"b"]) == [None, b"2"]


def test_a_deleted_key_is_missing_for_others_too(folder):
    written(folder, {b"a": b"1", b"b": b"2"})
    store = connect(folder)
    assert delete(store, [b"a", b"c"]) == 1
    assert get_many(connect(folder), [b"a", b"b"]) == [None, b"2"]
    written(folder, {b"a": b"3"})
    assert get_many(connect(folder), [b"a"]) == [b"3"]


def test_two_keys_with_one_hash_are_never_mistaken(folder, monkeypatch):
    monkeypatch.setattr(
        "kvspark.store.files.segment.hashes_of", lambda keys: hashes_of([b"x"] * len(list(keys)))
    )
    monkeypatch.setattr(
        "kvspark.store.files.segment_set.hashes_of",
        lambda keys: hashes_of([b"x"] * len(list(keys))),
    )
    written(folder, {b"a": b"1"})
    assert get_many(connect(folder), [b"b", b"a"])[0] is None
    assert get_many(connect(folder), [b"a"]) == [b"1"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_segment_that_was_damaged_gives_no_wrong_value_and_no_error(data, tmp_path_factory):
    entries = {b"key %d" % row: b"%d" % row * 50 for row in range(20)}
    payload = bytearray(packed({key: Record(value, NEVER_MS) for key, value in entries.items()}))
    how = data.draw(st.sampled_from(["cut", "flip", "grow"]))
    at = data.draw(st.integers(0, len(payload) - 1))
    if how == "cut":
        del payload[at:]
    elif how == "grow":
        payload += bytes(at % 50 + 1)
    else:
        payload[at] ^= 1 << data.draw(st.integers(0, 7))
    folder = tmp_path_factory.mktemp("cold")
    (folder / f"1-x{SUFFIX}").write_bytes(payload)
    store = connect(folder)
    found = get_many(store, list(entries))
    # A bit of a value is for the entry's own seal to find; lengths and keys are right or missing.
    for value, right in zip(found, entries.values(), strict=True):
        assert value is None or how == "flip" or value == right
    if how != "flip":
        assert found == [None] * 20
        assert store.drain() == {"damaged": 1}
    store.close()


class Stuck(LocalFileSystem):  # type: ignore[misc] # It has no types.
    """A file system that opens nothing before it is told to."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = threading.Event()

    def _open(self, path, mode="rb", **options):
        if mode == "rb":
            self.goes_on.wait(60)
        return super()._open(path, mode, **options)


def test_files_that_hang_cost_one_timeout_and_keep_nobody(folder):
    written(folder, {b"a": b"1"})
    files = Stuck()
    stuck = Folder(fs.PyFileSystem(fs.FSSpecHandler(files)), str(folder), url="stuck")
    store = ColdStore(stuck)
    for _ in range(2):
        with Clock() as clock, pytest.raises(StoreUnavailableError) as caught:
            get_many(store, [b"a"], timeout_s=TIMEOUT_S)
        assert is_timeout(caught.value)
        assert TIMEOUT_S * 0.9 < clock.seconds < TIMEOUT_S + SLACK_S
    # What is in memory is there, and is written, all the same.
    assert set_many(store, [(b"b", b"2")], ttl_s=60) == 1
    assert get_many(store, [b"b"]) == [b"2"]
    assert store.drain() == {}
    assert get_many(connect(folder), [b"b"]) == [b"2"]
    files.goes_on.set()
    assert get_many(store, [b"a", b"b"], timeout_s=5) == [b"1", b"2"]
    store.close()


def test_a_folder_that_is_a_file_is_an_error_and_writes_are_counted(tmp_path):
    (tmp_path / "cold").write_text("a file")
    store = connect(tmp_path / "cold" / "below")
    with pytest.raises(StoreUnavailableError):
        ping(store)
    assert set_many(store, [(b"a", b"1")], ttl_s=60) == 1
    assert store.drain() == {"unavailable": 1}
    set_many(store, [(b"a", b"1")], ttl_s=60)
    with pytest.raises(StoreUnavailableError):
        delete(store, [b"a"])


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, StoreFullError),
        (errno.EROFS, StoreFullError),
        (errno.EACCES, StoreRefusedError),
        (errno.EIO, StoreUnavailableError),
    ],
)
def test_what_a_file_system_says_is_told_by_its_number(number, kind):
    assert type(store_error(OSError(number, "said"), "file:///x")) is kind


def test_a_process_that_ends_without_a_word_loses_what_was_not_written_and_nothing_else(folder):
    program = f"""
import os
from pathlib import Path
from kvspark.store.files.cold import ColdStore
from kvspark.store.files.segment_folder import Folder
from tests.store.calls import set_many
store = ColdStore(Folder.at({folder.as_uri()!r}))
set_many(store, [(b"a", b"1")], ttl_s=None)
while not list(Path({str(folder)!r}).glob("*{SUFFIX}")):
    store.drain()
set_many(store, [(b"b", b"2")], ttl_s=None)
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert get_many(connect(folder), [b"a", b"b"]) == [b"1", None]


def test_what_a_search_finds_can_be_deleted_while_it_goes_on(folder):
    written(folder, {b"a%d" % row: b"1" for row in range(5_000)})
    written(folder, {b"b": b"1", b"a1": b"2"})
    store = connect(folder)
    set_many(store, [(b"a-pending", b"1")], ttl_s=60)
    assert sum(delete(store, keys) for keys in store.scan(b"a", each_s=PATIENT_S)) == 5_001
    assert scanned(store, b"a") == []
    assert get_many(connect(folder), [b"a1", b"a2", b"b"]) == [None, None, b"1"]


# ---------------------------------------------------------------- compaction


def test_compaction_keeps_what_is_alive_and_drops_the_rest(folder):
    written(folder, {b"%d" % row: b"old" for row in range(50)})
    written(folder, {b"%d" % row: b"new" for row in range(10)})
    store = connect(folder)
    assert delete(store, [b"49"]) == 1
    store.close()
    folder_entries = {b"ended": Record(b"x", 1), b"gone": Record(b"", DELETED_MS)}
    (folder / f"1-x{SUFFIX}").write_bytes(packed(folder_entries))
    done = compact(Folder.at(folder.as_uri()))
    assert done == Compaction(segments_before=4, segments_after=1, entries=49, dropped=14)
    keys = [b"%d" % row for row in range(50)]
    expected = [b"new"] * 10 + [b"old"] * 39 + [None]
    assert get_many(connect(folder), keys) == expected
    assert b"49" not in {key for key in keys if get_many(connect(folder), [key]) != [None]}


def test_compaction_makes_segments_of_a_bounded_size(folder):
    for part in range(4):
        written(folder, {b"%d/%d" % (part, row): bytes(1_000) for row in range(100)})
    done = compact(Folder.at(folder.as_uri()), segment_bytes=150_000)
    assert (done.segments_after, done.entries) == (3, 400)
    assert max(path.stat().st_size for path in segments(folder)) < 200_000


def test_a_reader_goes_on_while_its_segments_are_compacted(folder):
    written(folder, {b"a": b"1"})
    written(folder, {b"b": b"2"})
    reader = connect(folder)
    assert get_many(reader, [b"a", b"b"]) == [b"1", b"2"]
    compact(Folder.at(folder.as_uri()))
    for _ in range(3):
        assert get_many(reader, [b"a", b"b"]) == [b"1", b"2"]
    assert get_many(connect(folder), [b"a", b"b"]) == [b"1", b"2"]


def test_what_is_written_after_a_compaction_is_newer(folder):
    written(folder, {b"a": b"1"})
    written(folder, {b"a": b"2"})
    compact(Folder.at(folder.as_uri()))
    written(folder, {b"a": b"3"})
    assert get_many(connect(folder), [b"a"]) == [b"3"]


def test_a_url_without_a_file_system_is_an_error():
    with pytest.raises(ValueError, match="pyarrow"):
        Folder.at("nowhere://x")
