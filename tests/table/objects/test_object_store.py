"""What tables ask of an object store, of each kind of them; and that the doubles can say no."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import obstore
import pytest
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import from_url

from kvspark.errors import UsageError
from kvspark.table.objects.object_store import ObjectStore
from kvspark.table.objects.objects import ObjectChangedError
from kvspark.table.objects.storage import Storage, bucket_of
from tests.azure_double import ACCOUNT, MOST_DELETED
from tests.gcs_double import SMALLEST_PART
from tests.object_double import BUCKET, Answer, Asked, ObjectDouble
from tests.object_server import S3Address

CLOUDS = ("gcs", "azure")
STORES = ("s3", *CLOUDS)


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """A place of its own in a store."""
    return _new(request.getfixturevalue(request.param).url)


@pytest.fixture(params=CLOUDS)
def double(request: pytest.FixtureRequest) -> Iterator[ObjectDouble]:
    double: ObjectDouble = request.getfixturevalue(request.param)
    yield double
    double.faults.clear()


def _new(bucket: str) -> ObjectStore:
    return ObjectStore(Storage(f"{bucket}/{secrets.token_hex(4)}"))


def _client(double: ObjectDouble) -> Any:
    """The client itself, without kvspark."""
    return from_url(f"{double.url}/{secrets.token_hex(4)}", client_options={"allow_http": True})


def _version(made: Any) -> Any:
    """What tells it from the object's other versions."""
    return {name: value for name, value in made.items() if value is not None}


def test_a_double_refuses_a_write_that_expects_another_version(double: ObjectDouble) -> None:
    client = _client(double)
    first = _version(obstore.put(client, "a", b"same", mode="create"))
    with pytest.raises(AlreadyExistsError):
        obstore.put(client, "a", b"other", mode="create")
    second = _version(obstore.put(client, "a", b"same", mode=first))
    with pytest.raises(PreconditionError):  # the same bytes, and another version
        obstore.put(client, "a", b"stale", mode=first)
    with pytest.raises(PreconditionError):
        obstore.put(client, "none", b"stale", mode=second)
    assert bytes(obstore.get(client, "a").bytes()) == b"same"
    told = [status for _, _, status in double.asked[-6:]]
    made, there = {"gs": (200, 412), "az": (201, 409)}[double.scheme]
    assert told == [made, there, made, 412, 412, 200]


def test_a_double_refuses_an_upload_whose_parts_are_too_small(gcs: ObjectDouble) -> None:
    client = _client(gcs)
    file = obstore.open_writer(client, "a", buffer_size=SMALLEST_PART // 2)
    file.write(bytes(SMALLEST_PART * 2))
    with pytest.raises((BaseError, OSError), match="EntityTooSmall"):
        file.close()
    with pytest.raises(FileNotFoundError):
        obstore.head(client, "a")


def test_of_two_writes_that_expect_one_version_one_wins(store: ObjectStore) -> None:
    with pytest.raises(ObjectChangedError, match="changed by another run"):
        store.put_if("none", b"", store.put_if("a", b"1", None))
    found = store.get("a")
    assert found is not None
    assert found.data == b"1"
    second = store.put_if("a", b"2", found.tag)
    for stale in (found.tag, None):
        with pytest.raises(ObjectChangedError, match="changed by another run"):
            store.put_if("a", b"stale", stale)
    store.put_if("a", b"3", second)
    now = store.get("a")
    assert now is not None
    assert now.data == b"3"


def test_what_is_listed_is_read_as_it_was_and_refused_once_it_is_another(
    store: ObjectStore,
) -> None:
    store.put("f/a b/ü%2F=1", b"0123456789")
    (listed,) = store.listed("f")
    assert (listed.name, listed.size_bytes) == ("f/a b/ü%2F=1", 10)
    found = store.stat(listed.name)
    assert found is not None
    assert (found.size_bytes, found.tag) == (listed.size_bytes, listed.tag)
    assert listed.tag is not None
    assert store.part(listed.name, 2, 5, listed.tag) == b"234"
    reader = store.reader(listed.name)
    reader.seek(7)
    assert bytes(reader.read(None)) == b"789"
    store.put(listed.name, b"another")
    with pytest.raises(ObjectChangedError, match="written or removed"):
        store.part(listed.name, 2, 5, listed.tag)
    store.delete([listed.name])
    with pytest.raises(ObjectChangedError, match="written or removed"):
        store.part(listed.name, 2, 5, listed.tag)
    assert store.stat(listed.name) is None
    assert store.get(listed.name) is None
    assert store.size_bytes(listed.name) is None


def test_objects_are_deleted_whether_they_are_there_or_not(store: ObjectStore) -> None:
    names = [f"d/{number}" for number in range(12)]
    for name in names[::2]:
        store.put(name, b"")
    store.delete(names)
    assert list(store.listed("d")) == []
    store.delete(["none"])
    store.delete_folder("d")


def test_listings_go_on_after_their_first_page(double: ObjectDouble) -> None:
    store = _new(double.url)
    key = store.url.removeprefix(f"{double.url}/")
    names = [f"{folder}/{number:04}" for folder in "xyz" for number in range(1_700)]
    for name in names:
        double.keep(f"{key}/many/{name}", b"")
    assert [each.name for each in store.listed("many")] == [f"many/{name}" for name in names]
    assert store.folders("many") == ["x", "y", "z"]
    assert store.folders("none") == []
    store.delete([f"many/{name}" for name in names[: MOST_DELETED + 1]])
    assert len(list(store.listed("many"))) == len(names) - MOST_DELETED - 1


def test_a_file_of_several_parts_is_there_when_it_is_closed(store: ObjectStore) -> None:
    data = secrets.token_bytes(1 << 20) * 20
    file = store.writer("a")
    file.write(data)
    assert store.stat("a") is None
    file.close()
    assert store.part("a", 0, len(data), str(store.stat("a").tag)) == data  # type: ignore[union-attr]


def test_a_store_that_is_busy_is_asked_again(double: ObjectDouble) -> None:
    store = _new(double.url)
    answers = [double.error(429, "SlowDown"), double.error(503, "ServerBusy")]

    def busy(asked: Asked) -> Answer | None:
        return answers.pop() if asked.method == "PUT" and answers else None

    double.faults.append(busy)
    store.put_if("a", b"2", store.put_if("a", b"1", None))
    assert answers == []
    assert store.get("a").data == b"2"  # type: ignore[union-attr]


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "BadDigest")])
def test_a_refusal_is_one_line_with_its_status(
    double: ObjectDouble, status: int, code: str
) -> None:
    store = _new(double.url)
    double.faults.append(lambda asked: double.error(status, code))
    kind = PermissionError if status == 403 else OSError
    for call in (
        lambda: store.get("a"),
        lambda: store.put("a", b""),
        lambda: store.put_if("a", b"", None),
        lambda: store.delete(["a"]),
        lambda: list(store.listed("a")),
    ):
        with pytest.raises(kind) as raised:
            call()
        assert str(raised.value).startswith(f"{store.url}")
        assert str(status) in str(raised.value)
        assert code in str(raised.value)
        assert "\n" not in str(raised.value)
        assert double.endpoint not in str(raised.value)


def test_a_bucket_that_is_not_there_is_one_line(double: ObjectDouble) -> None:
    store = ObjectStore(Storage(f"{double.scheme}://none/t"))
    with pytest.raises(
        OSError, match=r"no such object or bucket \(404 Not Found, NoSuchBucket\)"
    ) as raised:
        store.put("a", b"")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["az", "abfs", "abfss"])
@pytest.mark.parametrize("host", [f"{ACCOUNT}.dfs.core.windows.net", None])
def test_azure_has_the_urls_of_hadoop_too(
    azure: ObjectDouble, scheme: str, host: str | None
) -> None:
    name = secrets.token_hex(4)
    container = BUCKET if host is None else f"{BUCKET}@{host}"
    bucket, key = bucket_of(f"{scheme}://{container}/{name}/t", {})
    assert (bucket.url, key) == (f"{scheme}://{container}", f"{name}/t")
    ObjectStore(bucket).put(key, b"1")
    assert azure.objects[f"{name}/t"].data == b"1"


def test_an_account_that_the_url_does_not_name_as_azure_does_is_one_line() -> None:
    with pytest.raises(UsageError, match="names no object store") as raised:
        ObjectStore(Storage("abfss://container@account.example.com/t"))
    assert "\n" not in str(raised.value)


def test_other_credentials_of_the_environment_open_another_client(
    s3: S3Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(f"{s3.url}/{secrets.token_hex(4)}")
    ObjectStore(storage).put("a", b"1")
    with monkeypatch.context() as wrong:
        wrong.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        with pytest.raises(PermissionError, match="they come from the environment"):
            ObjectStore(storage).get("a")
    stored = ObjectStore(storage).get("a")
    assert stored is not None
    assert stored.data == b"1"


def test_a_bucket_or_server_that_is_not_there_is_told_with_what_to_do(s3: S3Address) -> None:
    del s3
    with pytest.raises(OSError, match=r"NoSuchBucket\); make the bucket, or name another$"):
        list(_new("s3://no-such-bucket").listed())
    storage = Storage("s3://bucket/a", {"endpoint": "http://127.0.0.1:9"})
    with pytest.raises(OSError, match=r"it did not answer: .* `endpoint` of its `storage`$"):
        ObjectStore(storage).get("a")
