"""Files that the workers of a host share: written once, whole, private, and what the manifest says."""

from __future__ import annotations

import errno
import logging
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from kvspark.errors import BundleError
from kvspark.fingerprint import file_sha256
from kvspark.spark.weights import hash_markers as verified
from kvspark.spark.weights.host_files import HostFiles

CONTENT = b"weights" * 1000
DIGEST = sha256(CONTENT).hexdigest()

# Notes in a file each time it is asked for the content.
WORKER = """
import sys
from pathlib import Path
from kvspark.spark.weights.host_files import HostFiles

root, notes, digest = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def content():
    with notes.open("a") as file:
        file.write("asked\\n")
    return b"weights" * 1000

path = HostFiles(root).path(digest, 7000, content)
assert path.read_bytes() == b"weights" * 1000
"""


def never() -> bytes:
    raise AssertionError("asked for what is there")


def test_the_first_worker_writes_and_the_others_read(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        WORKER,
        str(tmp_path / "host"),
        str(tmp_path / "notes"),
        DIGEST,
    ]
    workers = [subprocess.Popen(command) for _ in range(4)]
    assert [running.wait() for running in workers] == [0, 0, 0, 0]
    assert (tmp_path / "notes").read_text() == "asked\n"


def test_files_are_private(tmp_path: Path) -> None:
    path = HostFiles(tmp_path / "host").path(DIGEST, len(CONTENT), lambda: CONTENT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_other_bytes_than_the_manifest_says_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="other bytes"):
        HostFiles(tmp_path / "host").path(DIGEST, len(CONTENT), lambda: CONTENT + b"!")
    assert [path.name for path in (tmp_path / "host").iterdir()] == ["lock"]


def test_a_file_of_another_size_is_written_again(tmp_path: Path) -> None:
    files = HostFiles(tmp_path / "host")
    path = files.path(DIGEST, len(CONTENT), lambda: CONTENT)
    path.chmod(0o600)
    path.write_bytes(CONTENT[:10])
    assert files.path(DIGEST, len(CONTENT), lambda: CONTENT).read_bytes() == CONTENT


def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir(mode=0o755)
    with pytest.raises(BundleError, match="of this user alone"):
        HostFiles(tmp_path / "host")


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir(mode=0o700)
    (tmp_path / "host").symlink_to(tmp_path / "other")
    with pytest.raises(BundleError, match="of this user alone"):
        HostFiles(tmp_path / "host")


@pytest.mark.parametrize("markers_first", [True, False])
def test_files_that_nobody_used_for_a_day_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, markers_first: bool
) -> None:
    files = HostFiles(tmp_path / "host")
    old = files.path(DIGEST, len(CONTENT), lambda: CONTENT)
    aged(tmp_path / "host", hours=25)

    iterdir = Path.iterdir

    def listed(folder: Path) -> Iterator[Path]:
        # A file system lists in the order it likes.
        found = sorted(iterdir(folder), key=lambda path: path.suffix == ".checked")
        return reversed(found) if markers_first else iter(found)

    monkeypatch.setattr(Path, "iterdir", listed)
    files.path(sha256(b"new").hexdigest(), 3, lambda: b"new")
    assert not old.exists()


def test_a_file_that_was_used_today_stays(tmp_path: Path) -> None:
    files = HostFiles(tmp_path / "host")
    old = files.path(DIGEST, len(CONTENT), lambda: CONTENT)
    aged(tmp_path / "host", hours=25)
    files.path(DIGEST, len(CONTENT), never)
    files.path(sha256(b"new").hexdigest(), 3, lambda: b"new")
    assert old.exists()


def aged(folder: Path, *, hours: float) -> None:
    """As if nothing in `folder` had been asked for since `hours` ago."""
    for marker in folder.glob("*.checked"):
        then = marker.stat().st_mtime - hours * 3600
        os.utime(marker, (then, then))


def test_a_damaged_file_is_found_and_written_again(tmp_path: Path) -> None:
    files = HostFiles(tmp_path / "host")
    path = files.path(DIGEST, len(CONTENT), lambda: CONTENT)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(b"WEIGHTS")
    files.path(DIGEST, len(CONTENT), lambda: CONTENT)
    assert path.read_bytes() == CONTENT


def test_a_file_is_hashed_once_a_host_and_not_by_every_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = list[Path]()

    def hashes(path: Path) -> str:
        hashed.append(path)
        return file_sha256(path)

    monkeypatch.setattr(verified, "file_sha256", hashes)
    for _ in range(3):
        HostFiles(tmp_path / "host").path(DIGEST, len(CONTENT), lambda: CONTENT)
    assert hashed == []  # the writer's own hash is enough
    foreign = tmp_path / "weights"
    foreign.write_bytes(CONTENT)
    for _ in range(2):
        HostFiles(tmp_path / "host").check(foreign, DIGEST)
    assert len(hashed) == 2  # it changed a moment ago, and may again in the same tick
    monkeypatch.setattr(verified, "_TICKS_NS", -1)
    for _ in range(3):
        HostFiles(tmp_path / "host").check(foreign, DIGEST)
    assert len(hashed) == 3


def test_new_content_under_an_old_date_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verified, "_TICKS_NS", -1)
    foreign = tmp_path / "weights"
    foreign.write_bytes(CONTENT)
    files = HostFiles(tmp_path / "host")
    files.check(foreign, DIGEST)
    before = foreign.stat()
    foreign.write_bytes(CONTENT.upper())
    os.utime(foreign, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BundleError, match=r"other bytes than the model's manifest says"):
        files.check(foreign, DIGEST)


def test_a_file_that_a_worker_cannot_see_says_where_it_must_be(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="the same path on every machine"):
        HostFiles(tmp_path / "host").check(tmp_path / "nowhere", DIGEST)


def test_the_least_recently_used_files_go_when_there_is_no_room(tmp_path: Path) -> None:
    contents = [bytes([n]) * 1000 for n in range(4)]
    files = HostFiles(tmp_path / "host", most_bytes=2500)
    paths = [
        files.path(sha256(made).hexdigest(), 1000, partial(bytes, made)) for made in contents[:2]
    ]
    aged(tmp_path / "host", hours=1)
    files.path(sha256(contents[0]).hexdigest(), 1000, never)  # used again
    files.path(sha256(contents[2]).hexdigest(), 1000, lambda: contents[2])
    assert [path.exists() for path in paths] == [True, False]
    # What was asked for a moment ago may not be open yet, so it stays though there is no room.
    files.path(sha256(contents[3]).hexdigest(), 1000, lambda: contents[3])
    assert paths[0].exists()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_where_nothing_can_be_written_a_worker_keeps_the_file_in_memory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: int,
) -> None:
    synced = []

    def full(fd: int) -> None:
        synced.append(fd)
        raise OSError(error, os.strerror(error))

    files = HostFiles(tmp_path / "host")
    monkeypatch.setattr(os, "fsync", full)
    with caplog.at_level(logging.WARNING):
        path = files.path(DIGEST, len(CONTENT), lambda: CONTENT)
    assert len(synced) == 1
    assert path.read_bytes() == CONTENT
    assert files.path(DIGEST, len(CONTENT), never) == path
    assert [path.name for path in (tmp_path / "host").iterdir()] == ["lock"]
    assert os.strerror(error) in caplog.text


LIMITED = """
import sys
from pathlib import Path
from kvspark.spark.weights.host_files import HostFiles

print(HostFiles(Path(sys.argv[1])).path(sys.argv[2], 7000, lambda: b"weights" * 1000))
"""


def test_where_memory_has_the_same_limit_there_is_one_clear_error(tmp_path: Path) -> None:
    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    command = [sys.executable, "-c", LIMITED, str(tmp_path / "host"), DIGEST]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    error = done.stderr.splitlines()[-1]
    assert "BundleError" in error
    assert "takes no file of 7000 bytes (File too large); make room" in error
    assert done.stdout == ""
