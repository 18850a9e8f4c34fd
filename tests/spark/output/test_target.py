"""Publishing: the old output or the new one, whatever dies, and never a person's own files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kvspark.errors import KvsparkError, OutputError, RunLockedError, UsageError
from kvspark.spark.output.exchange import exchange
from kvspark.spark.output.target import Target
from tests.faults.matrix import covers
from tests.spark.publishing import content_of, killed, publish, target_at


def names_in(path: Path) -> list[str]:
    return [item.name for item in path.iterdir()]


def test_exchange_swaps_two_folders(tmp_path: Path) -> None:
    left, right = tmp_path / "left", tmp_path / "right"
    left.mkdir()
    right.mkdir()
    (left / "a").touch()
    if not exchange(left, right):
        pytest.skip("this file system cannot swap two folders")
    assert names_in(right) == ["a"]
    assert names_in(left) == []


def test_exchange_says_why_it_was_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "absent", tmp_path)


@covers("F40")
def test_a_second_run_of_a_target_is_told_who_holds_it(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "out"))
    with target.lock("night-1"), pytest.raises(RunLockedError, match="run night-1 holds it since"):
        Target(str(tmp_path / "out")).lock("night-2").__enter__()
    with target.lock("night-2"):
        pass
    assert names_in(tmp_path) == []


def test_the_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed("publish", out, "exchange", "new", "synced")
    with Target(str(out)).lock("again"):
        pass


def test_a_failed_publish_leaves_the_old_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(target_at(out), "old")
    target = target_at(out, "rename")
    with target.lock("run-2"), pytest.raises(OutputError, match="the old output is untouched"):
        target.publish(target.stage("run-2"))
    assert content_of(out) == "old"


def as_file(path: Path) -> None:
    path.write_text("")


def as_symlink(path: Path) -> None:
    path.symlink_to(path.parent, target_is_directory=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [(as_file, "is a file"), (as_symlink, "is a symlink")],
    ids=["file", "symlink"],
)
def test_what_is_no_output_folder_is_refused(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "out")
    with pytest.raises(OutputError, match=message):
        Target(str(tmp_path / "out"))


def test_a_folder_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(OutputError, match="write"), Target("/proc/self/out").lock("run"):
        pass


@pytest.mark.parametrize("inside", [".", "..", "out", "out/inner"])
def test_an_output_that_overlaps_with_its_input_is_refused(tmp_path: Path, inside: str) -> None:
    given = (tmp_path / "a" / inside).resolve()
    with pytest.raises(UsageError, match="overlap"):
        Target(str(tmp_path / "a" / "out"), inputs=[given])


def test_a_sibling_of_the_input_is_no_overlap(tmp_path: Path) -> None:
    Target(str(tmp_path / "a" / "out"), inputs=[tmp_path / "a" / "out2"])


@pytest.mark.parametrize("path", ["hdfs://host/out", "s3a://bucket/out", "S3://b/out"])
def test_what_is_not_supported_yet_says_what_is(path: str) -> None:
    with pytest.raises(UsageError, match="name a path of a POSIX file system"):
        Target(path)


@pytest.mark.parametrize("path", ["", " ", "/", "file:///"])
def test_a_path_that_names_no_folder_is_refused(path: str) -> None:
    with pytest.raises(KvsparkError, match="give the path of a folder"):
        Target(path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("~nobody-of-this-name/out", "names no place"),
        ("/tmp/a\0b", "has a character"),
        ("/tmp/a\nb", "has a character"),
        ("/tmp/" + "x" * 300, "names no place"),
        ("/tmp/" + "x" * 250, "has a name of 250 bytes; 246 are the most"),
        ("file://host/out", "names the host host; write file:/// with three slashes"),
    ],
    ids=["user", "nul", "newline", "longer", "long", "host"],
)
def test_a_path_that_no_file_system_takes_is_a_usage_error(path: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Target(path)
    assert len(caught.value.line()) < 250


def test_a_loop_of_links_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UsageError, match="names no place"):
        Target(str(tmp_path / "loop" / "out"))


def test_no_output_lies_where_a_job_keeps_its_old_ones(tmp_path: Path) -> None:
    for text in ("first", "second"):
        publish(target_at(tmp_path / "out"), text)
    (kept,) = target_at(tmp_path / "out").versions()
    for place in (kept.path / "inner", kept.path.parent / "other"):
        with pytest.raises(OutputError, match="lies inside"):
            Target(str(place))


@pytest.mark.parametrize("prefix", ["file://localhost", "file://", "file:", ""])
def test_a_file_url_is_a_path(tmp_path: Path, prefix: str) -> None:
    assert Target(f"{prefix}{tmp_path}/a%20b").path == tmp_path / ("a b" if prefix else "a%20b")


def test_a_run_id_with_colons_names_a_folder_that_hadoop_takes(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "out"))
    first = target.stage("scheduled__2026-01-01T00:00:00+00:00")
    assert ":" not in first.name
    assert first != target.stage("scheduled__2026-01-01T00:00:00+00:00")
