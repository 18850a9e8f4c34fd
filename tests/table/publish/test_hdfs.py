"""What only HDFS can do to a run: quotas, safe mode, a NameNode that dies, answers that are lost, late tasks."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress

import pytest

import kvspark
from kvspark.errors import OutputError, RunLockedError, UsageError
from kvspark.table.hdfs import bounded, hdfs_files
from kvspark.table.hdfs.hdfs_files import HdfsFiles, client_at
from kvspark.table.hdfs.hdfs_objects import HdfsObjects
from kvspark.table.hdfs.refusals import telling
from kvspark.table.objects.storage import Storage
from kvspark.table.place.hdfs_place import HdfsPlace
from kvspark.table.publish import object_publisher
from kvspark.table.publish.object_lock import ObjectLock
from kvspark.table.publish.object_publisher import ObjectPublisher
from tests.hdfs_server import HdfsServer
from tests.processes import send
from tests.table.publish.hdfs_tables import client_of, hdfs_left_over
from tests.table.publish.targets import content_of, rows, run, table_of, write_all

Trouble = Callable[[HdfsServer, str], AbstractContextManager[None]]

AT_ONCE = {"dfs.client.failover.max.attempts": "0"}
"""Tries of a request besides the first."""


@pytest.fixture
def url(hdfs: HdfsServer) -> str:
    return f"{hdfs.url}/{secrets.token_hex(4)}/table"


def publisher(url: str, options: Mapping[str, str] | None = None, keep: int = 1) -> ObjectPublisher:
    return ObjectPublisher(Storage(url, options or {}), owner="small", keep=keep)


def found(url: str) -> list[tuple[str, str]]:
    return rows("hdfs", url)


# ---------------------------------------------------------------- runs


@pytest.mark.parametrize("which", [1, 2])
def test_a_commit_whose_answer_is_lost_is_published_once(
    url: str, hdfs: HdfsServer, which: int
) -> None:
    target = publisher(url, keep=5)
    for content in ["one", "two"][:which]:
        with target.lock(content):
            attempt = target.prepare(content)
            told = content_of(target, content, write_all(attempt, content))
            if content == ["one", "two"][which - 1]:
                hdfs.proxy.lose_answer("rename2")
            target.commit(attempt, told)
    assert hdfs.proxy.fired == 1
    assert found(url) == table_of(["one", "two"][which - 1])
    assert [each.run_id for each in target.versions()] == ["one"][: which - 1]


def test_a_file_whose_answer_is_lost_is_there(url: str, hdfs: HdfsServer) -> None:
    place = HdfsPlace(Storage(url))
    place.open()
    file = place.create("k=1/part")
    file.write(b"rows")
    hdfs.proxy.lose_answer("rename2")
    file.close()
    assert hdfs.proxy.fired == 1
    assert HdfsFiles(Storage(url)).read("k=1/part") == b"rows"


def test_no_file_comes_once_its_place_is_closed_and_none_that_was_abandoned(url: str) -> None:
    place = HdfsPlace(Storage(url))
    place.open()
    late, gone = place.create("k=1/late"), place.create("gone")
    late.write(b"late")
    gone.write(b"gone")
    gone.abandon()
    assert len(list(HdfsObjects(Storage(url)).listed("_kvspark/open"))) == 1
    place.close()
    with pytest.raises(FileNotFoundError, match="the run that wrote here has ended"):
        late.close()
    with pytest.raises(FileNotFoundError, match="the run that wrote here has ended"):
        place.create("later")
    late.abandon()
    assert [each.name for each in HdfsObjects(Storage(url)).listed()] == []


def test_a_task_of_a_run_that_was_removed_brings_no_folder_back(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = HdfsPlace(Storage(f"{url}/_runs/dead"))
    place.open()
    late = place.create("k=1/late")
    late.write(b"late")
    make_folder = HdfsFiles.make_folder
    made: list[str] = []

    def once_it_is_removed(own: HdfsFiles, path: str, *, makes_folders: bool = True) -> None:
        HdfsFiles(Storage(url)).delete("_runs/dead")
        made.append(path)
        make_folder(own, path, makes_folders=makes_folders)

    monkeypatch.setattr(HdfsFiles, "make_folder", once_it_is_removed)
    with pytest.raises(FileNotFoundError, match="the run that wrote here has ended"):
        late.close()
    assert made == ["k=1"]
    assert HdfsObjects(Storage(url)).folders("_runs") == []


def test_an_attempt_that_was_only_slow_cannot_publish_what_a_later_one_has_swept(url: str) -> None:
    slow, quick = publisher(url), publisher(url)
    attempt = slow.prepare("slow")
    content = content_of(slow, "slow", write_all(attempt, "slow"))
    later = quick.prepare("quick")
    with pytest.raises(RunLockedError, match="another run has begun since"):
        slow.commit(attempt, content)
    quick.commit(later, content_of(quick, "quick", write_all(later, "quick")))
    slow.abort(attempt)
    assert found(url) == table_of("quick")


def test_the_lock_expires_by_the_clock_of_the_namenode(url: str) -> None:
    store = HdfsObjects(Storage(url))
    with ObjectLock(store, "one"):
        with pytest.raises(RunLockedError, match="run one holds it"):
            ObjectLock(store, "two").__enter__()
        taken, is_taken = ObjectLock(store, "two", expires_s=0.3), False
        for _ in range(100):
            with suppress(RunLockedError):
                dead, is_taken = taken.__enter__(), True
                break
            time.sleep(0.05)
        assert is_taken
        assert dead
        assert dead.run_id == "one"
        taken.__exit__(None, None, None)
    with ObjectLock(store, "three"):
        pass


# ---------------------------------------------------------------- refusals


@contextmanager
def a_space_quota(hdfs: HdfsServer, path: str) -> Iterator[None]:
    hdfs.admin("-setSpaceQuota", "1m", path)
    try:
        yield
    finally:
        hdfs.admin("-clrSpaceQuota", path)


@contextmanager
def a_quota_of_names(hdfs: HdfsServer, path: str) -> Iterator[None]:
    hdfs.admin("-setQuota", "1", path)
    try:
        yield
    finally:
        hdfs.admin("-clrQuota", path)


@contextmanager
def safe_mode(hdfs: HdfsServer, path: str) -> Iterator[None]:
    hdfs.admin("-safemode", "enter")
    try:
        yield
    finally:
        hdfs.admin("-safemode", "leave")


@contextmanager
def a_dead_namenode(hdfs: HdfsServer, path: str) -> Iterator[None]:
    hdfs.kill()
    try:
        yield
    finally:
        hdfs.start()


@contextmanager
def a_hanging_server(process: subprocess.Popen[bytes]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patience:
        patience.setattr(bounded, "MOST_S", 0.5)
        send(process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            send(process.pid, signal.SIGCONT)


def a_hanging_namenode(hdfs: HdfsServer, path: str) -> AbstractContextManager[None]:
    return a_hanging_server(hdfs.namenode)


def a_hanging_datanode(hdfs: HdfsServer, path: str) -> AbstractContextManager[None]:
    return a_hanging_server(hdfs.datanode)


@pytest.mark.parametrize(
    ("trouble", "told"),
    [
        (a_space_quota, "quota of space is used up"),
        (a_quota_of_names, "quota of names is used up"),
        (safe_mode, "the NameNode is in safe mode"),
        (a_dead_namenode, "HDFS does not answer"),
        (a_hanging_namenode, r"HDFS does not answer \(no answer after 0.5 s\)"),
        (a_hanging_datanode, r"HDFS does not answer \(no answer after 0.5 s\)"),
    ],
)
def test_hdfs_that_refuses_in_the_middle_publishes_nothing_and_the_next_run_goes_on(
    url: str, hdfs: HdfsServer, monkeypatch: pytest.MonkeyPatch, trouble: Trouble, told: str
) -> None:
    monkeypatch.setattr(object_publisher, "_WAITS_S", (0.01,))
    run(publisher(url), "one")
    target = publisher(url, AT_ONCE)
    attempt = target.prepare("two")
    content = content_of(target, "two", write_all(attempt, "two"))
    with trouble(hdfs, client_of(url)[1]):
        with pytest.raises(OSError, match=told) as of_a_task:
            write_all(attempt, "more")
        with pytest.raises(OutputError, match=f"{told}.*nothing was published") as of_a_commit:
            target.commit(attempt, content)
        with pytest.raises(OutputError, match=f"{told}.*nothing was written") as of_a_run:
            run(target, "three")
        target.abort(attempt)  # fails as well, and says so in the log
    assert not any("\n" in str(each.value) for each in (of_a_task, of_a_commit, of_a_run))
    assert found(url) == table_of("one")
    run(publisher(url), "four")
    assert found(url) == table_of("four")
    assert [each.run_id for each in publisher(url).versions()] == ["one"]
    assert hdfs_left_over(url) == []


def test_another_user_is_refused_in_one_line(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run(publisher(url), "one")
    client_at.cache_clear()
    monkeypatch.setenv("HADOOP_USER_NAME", "somebody")
    with pytest.raises(OutputError, match=r"does not let this user do it .*user=somebody") as told:
        publisher(url).lock("two").__enter__()
    assert "\n" not in str(told.value)
    assert kvspark.read(url).to_table().num_rows == len(table_of("one"))
    client_at.cache_clear()


def test_a_namenode_that_is_not_there_is_one_line(url: str) -> None:
    for place in ("hdfs://127.0.0.1:9/table", "hdfs://nobody.invalid:8020/table"):
        with pytest.raises(
            OutputError, match=r"HDFS does not answer .*nothing was written"
        ) as told:
            publisher(place, AT_ONCE).check()
        assert "\n" not in str(told.value)
    with pytest.raises(
        UsageError, match=r"No NameNode hosts found\); write .* or set HADOOP_CONF_DIR"
    ):
        publisher("hdfs://nameservice/table")


def test_a_nameservice_is_one_of_its_namenodes(url: str, hdfs: HdfsServer) -> None:
    ha = {
        "dfs.ha.namenodes.bank": "a,b",
        "dfs.namenode.rpc-address.bank.a": "127.0.0.1:9",
        "dfs.namenode.rpc-address.bank.b": hdfs.url.removeprefix("hdfs://"),
    }
    named = url.replace(hdfs.url, "hdfs://bank")
    run(publisher(named, ha), "one")
    current = publisher(named, ha).current()
    assert current is not None
    assert current.url.startswith("hdfs://bank/")
    assert publisher(url).current() == current


def test_without_its_client_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    client_at.cache_clear()
    monkeypatch.setitem(sys.modules, "hdfs_native", None)
    with pytest.raises(UsageError, match=r"pip install 'kvspark\[hdfs\]'"):
        publisher("hdfs://namenode:8020/table")


def test_a_trace_of_java_is_one_line() -> None:
    raised = RuntimeError(
        'RPCError("java.io.IOException", "no \\"room\\"\\n\\tat org.apache.X(X.java:1)")'
    )
    with pytest.raises(OSError, match=r"^place: HDFS does not do it") as told, telling("place"):
        raise raised
    assert str(told.value) == 'place: HDFS does not do it (IOException: no "room")'


@pytest.mark.parametrize("data", [b"", b"{", b'{"format": 1}'])
def test_a_pointer_that_is_damaged_is_refused_and_stays(url: str, data: bytes) -> None:
    store = HdfsObjects(Storage(url))
    tag = store.put_if("_kvspark/pointer.json", data, None)
    with pytest.raises(OutputError, match="is damaged, or a later version of kvspark wrote it"):
        run(publisher(url), "one")
    there = store.get("_kvspark/pointer.json")
    assert there is not None
    assert (there.data, there.tag) == (data, tag)


def test_what_no_run_wrote_is_refused(url: str) -> None:
    store = HdfsObjects(Storage(url))
    with publisher(url).lock("one"):  # what a run leaves that ended here is no stranger's
        pass
    publisher(url).check()
    store.put("mine.txt", b"mine")
    with pytest.raises(OutputError, match=r"that no run wrote \(mine.txt\)"):
        publisher(url).check()


def test_a_listing_that_may_not_be_whole_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = HdfsObjects(Storage(url))
    for name in ("a/1", "b/1", "c/1"):
        store.put(name, b"1")
    assert list(store.listed("none")) == []
    monkeypatch.setattr(hdfs_files, "_PAGE", 1)
    listing = store.listed()
    found = [next(listing).name]
    store.delete_folder("c")
    with pytest.raises(FileNotFoundError):
        found += [each.name for each in listing]
    assert found[0] == "a/1"


def test_an_input_can_be_read_at_any_place(url: str) -> None:
    store = HdfsObjects(Storage(url))
    store.put("file", bytes(range(100)))
    reader = store.reader("file")
    assert reader.seek(-10, 2) == 90
    assert reader.read(4) == bytes(range(90, 94))
    assert (reader.tell(), reader.read(), reader.read(1)) == (94, bytes(range(94, 100)), b"")
