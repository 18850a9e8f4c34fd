"""Tables whose object store refuses, is full or slow: nothing is published, and the next run goes on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.killed_process import raised_by
from tests.object_proxy import ObjectProxy, late, object_proxy, say
from tests.object_server import S3Address
from tests.table.publish import targets
from tests.table.publish.targets import new_url, publisher_at, rows, run, table_of

EXPIRED = (403, "ExpiredToken")
FULL = (507, "InsufficientStorage")
MOMENTS = {
    "delta-s3": (("_kvspark/open", 1), ("_delta_log/", 1), ("part-", 1), ("_delta_log/", 2)),
    "iceberg-s3": (
        ("_kvspark/", 1),
        (".metadata.json", 1),
        ("part-", 1),
        (".avro", 3),
        (".metadata.json", 2),
    ),
}
"""Part of the names of objects, and the first write to such a name that is refused, as all after it are: when an attempt
begins, becomes the only one that may commit, writes rows, and commits."""


@pytest.fixture
def proxy(s3: S3Address) -> Iterator[ObjectProxy]:
    with object_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.mark.parametrize("refusal", [EXPIRED, FULL], ids=["expired", "full"])
@pytest.mark.parametrize(
    "moment", [(kind, *moment) for kind, each in MOMENTS.items() for moment in each], ids=str
)
def test_a_refusal_in_the_middle_publishes_nothing_and_the_next_run_goes_on(
    s3: S3Address,
    proxy: ObjectProxy,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    moment: tuple[str, str, int],
    refusal: tuple[int, str],
) -> None:
    kind, part, number = moment
    url = new_url(kind, s3.url, tmp_path)
    run(publisher_at(kind, url), "one")
    status, code = refusal
    left = iter(range(1, number))

    def is_refused(method: str, path: str) -> bool:
        return method == "PUT" and part in path and next(left, None) is None

    proxy.turn_on(say(status, code), is_refused)
    raised = _run_through(proxy, monkeypatch, kind, url, "two")
    assert proxy.fired >= 1
    assert raised is not None
    name, text = raised
    assert str(status) in text
    assert "\n" not in text
    if part == "part-":  # a task's, which its job tells
        assert name in {"OSError", "PermissionError"}
    else:
        assert name == "OutputError"
        assert re.search(r"nothing was (written|published)(, as far as is known)?$", text)
    assert rows(kind, url) == table_of("one")
    run(publisher_at(kind, url), "three")
    assert rows(kind, url) == table_of("three")


@pytest.mark.parametrize("kind", MOMENTS)
def test_a_slow_store_is_only_slow(
    s3: S3Address, proxy: ObjectProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    url = new_url(kind, s3.url, tmp_path)
    proxy.turn_on(late(0.02), lambda method, path: True)
    assert _run_through(proxy, monkeypatch, kind, url, "one") is None
    assert proxy.fired > 20
    assert rows(kind, url) == table_of("one")


def _run_through(
    proxy: ObjectProxy, monkeypatch: pytest.MonkeyPatch, kind: str, url: str, content: str
) -> tuple[str, str] | None:
    """What a run raises whose process reaches the server by `proxy`."""
    with monkeypatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        return raised_by(targets.main, kind, url, "run", content)
