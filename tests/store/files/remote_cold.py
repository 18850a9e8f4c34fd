"""What a cold tier must do in whatever store its segments lie, besides the contract of a store."""

from __future__ import annotations

import pytest

from kvspark.store.files.cold import ColdStore
from kvspark.store.files.compaction import compact
from kvspark.store.files.segment_folder import Folder
from tests.store.calls import get_many, set_many
from tests.store.files.test_cold import Drained
from tests.store.store_contract import StoreContract


def connect(folder: str) -> ColdStore:
    return ColdStore(Folder.at(folder))


class RemoteColdContract(StoreContract):
    """A fixture `folder` names a folder that is not there yet."""

    @pytest.fixture
    def store(self, folder):
        store = Drained(connect(folder))
        yield store
        store.close()

    def test_a_forked_child_and_its_parent_both_go_on(self, store, key):
        """The clients have threads, which a forked child has not: of many runs, one hung. Spark forks its workers from a
        process that opens no store."""

    def test_segments_are_merged(self, folder):
        for number in range(3):
            store = connect(folder)
            set_many(store, [(b"%d" % number, b"value"), (b"same", b"%d" % number)], ttl_s=60)
            assert store.drain() == {}
        made = compact(Folder.at(folder))
        assert (made.segments_before, made.segments_after, made.entries) == (3, 1, 4)
        assert len(Folder.at(folder).names()) == 1
        assert get_many(connect(folder), [b"0", b"1", b"2", b"same"]) == [b"value"] * 3 + [b"2"]
