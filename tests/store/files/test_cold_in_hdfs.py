"""The cold tier in a real HDFS: the contract of a store, and what happens when it refuses or does not answer."""

from __future__ import annotations

import secrets

import pytest

from kvspark.errors import StoreFullError, StoreUnavailableError, UsageError
from kvspark.store.files.segment_folder import Folder
from kvspark.store.opening.url import cold_folder
from tests.redis_server import free_port
from tests.store.calls import delete, get_many, set_many
from tests.store.files.remote_cold import RemoteColdContract, connect


@pytest.fixture
def folder(hdfs):
    return f"{hdfs.url}/{secrets.token_hex(4)}/cold"


class TestColdStoreInHdfs(RemoteColdContract):
    pass


def test_a_quota_that_is_used_up_takes_no_writes_and_is_read_on(folder, hdfs):
    store = connect(folder)
    set_many(store, [(b"a", b"value")], ttl_s=60)
    assert store.drain() == {}
    path = folder.removeprefix(hdfs.url)
    hdfs.admin("-setSpaceQuota", "1", path)
    try:
        set_many(store, [(b"b", b"value")], ttl_s=60)
        assert store.drain() == {"full": 1}
        with pytest.raises(StoreFullError) as told:
            delete(store, [b"a"])
        assert "\n" not in str(told.value)
        assert store.drain() == {"full": 1}
        assert get_many(connect(folder), [b"a", b"b"]) == [b"value", None]
    finally:
        hdfs.admin("-clrSpaceQuota", path)
    set_many(store, [(b"b", b"value")], ttl_s=60)
    assert store.drain() == {}
    assert get_many(connect(folder), [b"a", b"b"]) == [b"value", b"value"]


def test_a_namenode_that_does_not_answer_is_left_at_the_deadline():
    store = connect(f"hdfs://127.0.0.1:{free_port()}/cold")
    with pytest.raises(StoreUnavailableError, match=r"TimeoutError|OSError") as told:
        get_many(store, [b"a"], timeout_s=0.2)
    assert "\n" not in str(told.value)


def test_a_file_that_is_cut_is_no_segment(folder):
    place = Folder.at(folder)
    place.write("1-cut.kvseg", b"KVSEG1")
    store = connect(folder)
    assert get_many(store, [b"a"]) == [None]
    assert store.drain() == {"damaged": 1}
    place.try_writing()
    assert place.names() == ["1-cut.kvseg"]


@pytest.mark.parametrize("url", ["hdfs://namenode:8020", "hdfs:///cold", "hdfs://nobody/cold"])
def test_a_url_that_names_no_folder_is_refused(url):
    with pytest.raises(UsageError, match=r"^cache\.cold: hdfs://.* names no") as told:
        cold_folder(url)
    assert "\n" not in str(told.value)
