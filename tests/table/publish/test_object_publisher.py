"""What only object stores can do to a run: lost answers, refusals in the middle, locks that expire, late uploads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import kvspark
from kvspark.errors import KvsparkError, OutputError, RunLockedError
from kvspark.table.objects.object_store import ObjectStore
from kvspark.table.objects.objects import ObjectChangedError, Stored
from kvspark.table.objects.storage import Storage
from kvspark.table.publish import object_publisher
from kvspark.table.publish.dead_run import DeadRun
from kvspark.table.publish.object_lock import LOCK_NAME, ObjectLock
from kvspark.table.publish.object_publisher import ObjectPublisher
from tests.object_double import Answer, Asked, ObjectDouble
from tests.object_proxy import ObjectProxy, late, lose_answer, object_proxy, say
from tests.object_server import S3Address
from tests.table.publish.targets import CLOUDS, content_of, rows, run, table_of, write_all

POINTER = "_kvspark/pointer.json"


@pytest.fixture
def url(s3: S3Address) -> str:
    return f"{s3.url}/{os.urandom(4).hex()}/table"


@pytest.fixture
def proxy(s3: S3Address) -> Iterator[ObjectProxy]:
    with object_proxy(s3.endpoint) as proxy:
        yield proxy


def publisher(url: str, proxy: ObjectProxy | None = None, keep: int = 1) -> ObjectPublisher:
    options = {} if proxy is None else {"endpoint": proxy.endpoint}
    return ObjectPublisher(Storage(url, options), owner="small", keep=keep)


def found(url: str) -> list[tuple[str, str]]:
    return rows("s3", url)


def is_pointer_write(method: str, path: str) -> bool:
    return method == "PUT" and path.endswith(POINTER)


def test_a_commit_whose_answer_is_lost_is_published_once(url: str, proxy: ObjectProxy) -> None:
    run(publisher(url), "one")
    target = publisher(url, proxy, keep=5)
    with target.lock("two"):
        attempt = target.prepare("two")
        content = content_of(target, "two", write_all(attempt, "two"))
        proxy.turn_on(lose_answer, is_pointer_write)
        target.commit(attempt, content)
        proxy.turn_off()
    assert proxy.fired >= 1
    assert found(url) == table_of("two")
    assert [each.run_id for each in target.versions()] == ["one"]


@pytest.mark.parametrize("kind", CLOUDS)
def test_a_commit_that_is_asked_for_again_is_published_once(
    request: pytest.FixtureRequest, kind: str
) -> None:
    """The store has done it and says that it could not: the client asks again, and is refused."""
    double: ObjectDouble = request.getfixturevalue(kind)
    url = f"{double.url}/{os.urandom(4).hex()}/table"
    run(publisher(url), "one")
    told: list[int] = []

    def fault(asked: Asked) -> Answer | None:
        if not is_pointer_write(asked.method, asked.key):
            return None
        answer = double.answer(asked)
        told.append(answer.status)
        return double.error(503, "Busy") if len(told) == 1 else answer

    target = publisher(url, keep=5)
    with target.lock("two"):
        attempt = target.prepare("two")
        content = content_of(target, "two", write_all(attempt, "two"))
        double.faults.append(fault)
        try:
            target.commit(attempt, content)
        finally:
            double.faults.clear()
    assert told[1] == 412
    assert rows(kind, url) == table_of("two")
    assert [each.run_id for each in target.versions()] == ["one"]


EXPIRED = (403, "ExpiredToken", r"refuses these credentials .*403 Forbidden.*ExpiredToken")
FULL = (507, "InsufficientStorage", r"does not do it .*507")


@pytest.mark.parametrize(
    ("moment", "refusal"),
    [
        *((moment, EXPIRED) for moment in ("begins", "part-", "files.json", "pointer.json")),
        *((moment, FULL) for moment in ("part-", "pointer.json")),
    ],
)
def test_a_store_that_refuses_in_the_middle_publishes_nothing_and_the_next_run_goes_on(
    url: str,
    proxy: ObjectProxy,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    refusal: tuple[int, str, str],
) -> None:
    status, code, told = refusal
    monkeypatch.setattr(object_publisher, "_WAITS_S", (0.01,))
    run(publisher(url), "one")
    target = publisher(url, proxy)

    def refused() -> None:
        with target.lock("two"):
            if moment == "begins":
                proxy.turn_on(say(status, code), lambda method, path: method == "PUT")
            attempt = target.prepare("two")
            if moment != "begins":
                proxy.turn_on(
                    say(status, code), lambda method, path: method == "PUT" and moment in path
                )
            target.commit(attempt, content_of(target, "two", write_all(attempt, "two")))

    with pytest.raises((OutputError, OSError), match=told) as error:
        refused()
    assert proxy.fired >= 1
    assert "\n" not in str(error.value)
    assert isinstance(error.value, KvsparkError) or moment == "part-"  # a task's, told by its job
    proxy.turn_off()
    assert found(url) == table_of("one")
    run(publisher(url), "three")
    assert found(url) == table_of("three")


def test_a_slow_store_is_only_slow(url: str, proxy: ObjectProxy) -> None:
    proxy.turn_on(late(0.02), lambda method, path: True)
    run(publisher(url, proxy), "one")
    assert proxy.fired > 20
    assert found(url) == table_of("one")


def test_an_attempt_that_was_only_slow_cannot_publish_what_a_later_one_has_swept(url: str) -> None:
    slow, quick = publisher(url), publisher(url)
    attempt = slow.prepare("slow")
    content = content_of(slow, "slow", write_all(attempt, "slow"))
    later = quick.prepare("quick")
    with pytest.raises(RunLockedError, match="another run has begun since") as told:
        slow.commit(attempt, content)
    assert told.value.exit_code == 75
    assert found(url) == []
    quick.commit(later, content_of(quick, "quick", write_all(later, "quick")))
    with pytest.raises(RunLockedError):
        slow.commit(attempt, content)
    slow.abort(attempt)
    assert found(url) == table_of("quick")


def test_of_two_that_commit_at_once_one_wins(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = publisher(url), publisher(url)
    attempt = first.prepare("first")
    content = content_of(first, "first", write_all(attempt, "first"))
    put_if = ObjectStore.put_if
    began: list[str] = []

    def after_another(store: ObjectStore, name: str, data: bytes, tag: str | None) -> str:
        if name == POINTER and not began:
            began.append(name)
            run(second, "second")
        return put_if(store, name, data, tag)

    monkeypatch.setattr(ObjectStore, "put_if", after_another)
    with pytest.raises(RunLockedError):
        first.commit(attempt, content)
    assert began
    assert found(url) == table_of("second")


def test_a_lock_that_nobody_renews_expires_and_one_that_is_renewed_does_not(url: str) -> None:
    store = ObjectStore(Storage(url))
    note = {"run": "dead", "host": "other", "pid": 1, "processes": "other", "seen": "then"}
    store.put(LOCK_NAME, json.dumps(note).encode())
    with pytest.raises(RunLockedError, match="run dead holds it, on other as process 1"):
        ObjectLock(store, "two").__enter__()
    # The clock of the store has whole seconds.
    deadline, is_taken = 100, False
    taken = ObjectLock(store, "two", expires_s=1.5)
    while not is_taken and deadline:
        deadline -= 1
        try:
            dead, is_taken = taken.__enter__(), True
        except RunLockedError:
            subprocess.run(["sleep", "0.2"], check=True)
    assert is_taken
    assert dead == DeadRun("dead", "then")  # of an older version, which did not say since when
    try:
        for _ in range(20):
            with pytest.raises(RunLockedError, match="run two holds it"):
                ObjectLock(store, "three", expires_s=1.5).__enter__()
            subprocess.run(["sleep", "0.2"], check=True)
    finally:
        taken.__exit__(None, None, None)
    with ObjectLock(store, "three"):
        pass


def test_the_lock_of_a_process_that_is_gone_is_free_at_once(url: str) -> None:
    code = (
        "import os, sys; from kvspark.table.objects.object_store import ObjectStore;"
        "from kvspark.table.objects.storage import Storage;"
        "from kvspark.table.publish.object_lock import ObjectLock;"
        "ObjectLock(ObjectStore(Storage(sys.argv[1])), 'dead').__enter__(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)
    note = ObjectStore(Storage(url)).get(LOCK_NAME)
    assert note is not None
    assert json.loads(note.data)["run"] == "dead"
    run(publisher(url), "two")
    assert found(url) == table_of("two")


def test_a_file_that_came_late_is_in_no_table(url: str) -> None:
    run(publisher(url), "one")
    current = publisher(url).current()
    assert current is not None
    store = ObjectStore(Storage(current.url))
    name = next(each.name for each in store.listed() if "part-00000" in each.name)
    stored = store.get(name)
    assert stored is not None
    late_name = name.replace("part-00000", "part-00000-late")
    store.put(late_name, stored.data)
    assert kvspark.read(url).to_table().num_rows == len(table_of("one"))
    target = publisher(url)
    attempt = target.prepare("two")
    assert store.get(late_name) is None
    target.abort(attempt)
    assert found(url) == table_of("one")


def test_a_commit_that_arrives_after_its_run_gave_up_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(publisher(url), "one")
    target = publisher(url)
    attempt = target.prepare("two")
    content = content_of(target, "two", write_all(attempt, "two"))
    under_way: list[tuple[str, bytes, str | None]] = []

    def never_answered(store: ObjectStore, name: str, data: bytes, tag: str | None) -> str:
        under_way.append((name, data, tag))
        raise OSError("no answer")

    with monkeypatch.context() as silent:
        silent.setattr(object_publisher, "_WAITS_S", ())
        silent.setattr(ObjectStore, "put_if", never_answered)
        with pytest.raises(OutputError, match="no answer; nothing was published"):
            target.commit(attempt, content)
    target.abort(attempt)
    ((name, data, tag),) = under_way
    with pytest.raises(ObjectChangedError):
        ObjectStore(Storage(url)).put_if(name, data, tag)
    assert found(url) == table_of("one")


def test_a_store_that_is_gone_in_the_commit_is_not_said_to_have_nothing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = publisher(url)
    attempt = target.prepare("one")
    content = content_of(target, "one", write_all(attempt, "one"))
    put_if, get = ObjectStore.put_if, ObjectStore.get
    is_gone: list[bool] = []

    def unanswered(store: ObjectStore, name: str, data: bytes, tag: str | None) -> str:
        put_if(store, name, data, tag)
        is_gone.append(True)
        raise OSError("no answer")

    def silent(store: ObjectStore, name: str) -> Stored | None:
        if is_gone:
            raise OSError("no answer")
        return get(store, name)

    with monkeypatch.context() as gone:
        gone.setattr(object_publisher, "_WAITS_S", ())
        gone.setattr(ObjectStore, "put_if", unanswered)
        gone.setattr(ObjectStore, "get", silent)
        with pytest.raises(OutputError, match=f"not known .* kvspark report {url}"):
            target.commit(attempt, content)
        target.abort(attempt)
    assert found(url) == table_of("one")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format": 2}', b'{"format": 1}'])
def test_a_pointer_that_is_damaged_is_refused_and_stays(url: str, data: bytes) -> None:
    store = ObjectStore(Storage(url))
    store.put(POINTER, data)
    with pytest.raises(OutputError, match="is damaged, or a later version of kvspark wrote it"):
        publisher(url).check()
    with pytest.raises(OutputError, match="is damaged"):
        run(publisher(url), "one")
    stored = store.get(POINTER)
    assert stored is not None
    assert stored.data == data


def test_what_no_run_wrote_is_refused_and_stays_where_it_is_told_to(url: str) -> None:
    ObjectStore(Storage(url)).put("mine.txt", b"mine")
    with pytest.raises(OutputError, match=r"has objects that no run wrote \(mine.txt\)"):
        publisher(url).check()
    run(ObjectPublisher(Storage(url), owner="small", overwrite=True), "one")
    assert found(url) == table_of("one")
    stored = ObjectStore(Storage(url)).get("mine.txt")
    assert stored is not None
    assert stored.data == b"mine"


def test_a_bucket_that_is_not_there_is_one_line(s3: S3Address, url: str) -> None:
    del s3, url
    with pytest.raises(
        OutputError, match=r"no such object or bucket|does not do it|refuses"
    ) as told:
        publisher(f"s3://{'x' * 70}/table").check()
    assert "\n" not in str(told.value)


def test_a_server_that_is_not_there_is_one_line(url: str) -> None:
    with pytest.raises(OutputError, match="the object store does not do it") as told:
        ObjectPublisher(Storage(url, {"endpoint": "http://127.0.0.1:9"})).check()
    assert "\n" not in str(told.value)
