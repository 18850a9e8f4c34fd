from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest

from kvspark.errors import StoreUnavailableError
from kvspark.store.embedded.embedded import EmbeddedStore
from tests.store.calls import get_many, ping, set_many
from tests.store.embedded.embedded_processes import (
    CLIENT,
    client,
    processes,
    server_of,
    settle,
    supervisor_of,
    wait_until,
)
from tests.store.store_contract import StoreContract

pytestmark = pytest.mark.redis


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedded") / "store"
    store = EmbeddedStore(folder)
    yield store
    store.close()
    settle(folder)


class TestEmbeddedStore(StoreContract):
    @pytest.fixture
    def store(self, shared):
        return shared


def test_processes_that_start_together_share_one_server(folder):
    script = "print(set_many(store, [(b'%d' % i, b'x') for i in range(100)], ttl_s=60), flush=True)"
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
    first = client(folder, "set_many(store, [(b'a', b'1')], ttl_s=1000)")
    first.communicate()
    assert first.returncode == 0
    settle(folder)
    second = client(folder, "print(get_many(store, [b'a', b'b']))")
    assert second.communicate()[0] == "[b'1', None]\n"


def test_the_server_saves_and_ends_when_all_its_users_were_killed(folder):
    script = "set_many(store, [(b'a', b'1')], ttl_s=None); print('set', flush=True); time.sleep(60)"
    clients = [client(folder, script) for _ in range(3)]
    for each in clients:
        assert each.stdout is not None
        each.stdout.readline()
    for each in clients:
        each.kill()
        each.communicate()
    settle(folder)
    assert get_many(EmbeddedStore(folder), [b"a"]) == [b"1"]


def test_a_forked_child_that_never_ends_does_not_keep_the_server(folder):
    script = """
import os
ping(store)
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


def test_a_forked_child_that_uses_the_server_keeps_it(embedded_store, folder):
    store = embedded_store
    set_many(store, [(b"a", b"1")], ttl_s=None)
    pid = os.fork()
    if pid == 0:
        is_right = False
        try:
            # The parent leaves meanwhile; the server must not.
            is_right = get_many(store, [b"a"]) == [b"1"]
            time.sleep(2.5)
            is_right = is_right and get_many(store, [b"a"]) == [b"1"]
        finally:
            os._exit(0 if is_right else 1)
    time.sleep(0.5)
    store.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_server_saves_and_ends_when_its_supervisor_was_killed(embedded_store, folder):
    store = embedded_store
    set_many(store, [(b"a", b"1")], ttl_s=None)
    supervisor_of(folder).kill()
    settle(folder)
    with pytest.raises(StoreUnavailableError):
        get_many(store, [b"a"])
    assert get_many(store, [b"a"]) == [b"1"]


def test_a_killed_server_is_started_again_by_the_call_after_the_next(embedded_store, folder):
    store = embedded_store
    set_many(store, [(b"a", b"1")], ttl_s=None)
    server_of(folder).kill()
    wait_until(lambda: not processes(folder))
    with pytest.raises(StoreUnavailableError):
        get_many(store, [b"a"])
    assert get_many(store, [b"a"]) == [None]
    assert len(processes(folder)) == 2


def test_a_hung_server_costs_one_timeout_and_is_not_started_twice(embedded_store, folder):
    store = embedded_store
    ping(store)
    server = server_of(folder)
    server.suspend()
    begun = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        get_many(store, [b"a"], timeout_s=0.2)
    # Its own time-out is 5 s.
    assert time.monotonic() - begun < 5
    assert len(processes(folder)) == 2
    server.resume()
    assert get_many(store, [b"a"]) == [None]


def test_a_server_that_hangs_when_its_users_leave_is_ended_all_the_same(folder):
    store = EmbeddedStore(folder)
    set_many(store, [(b"a", b"1")], ttl_s=None)
    server_of(folder).suspend()
    store.close()
    settle(folder)
    assert (folder / "dump.rdb").exists()


def test_the_server_goes_with_its_folder(folder):
    store = EmbeddedStore(folder)
    ping(store)
    running = processes(folder)
    assert len(running) == 2
    shutil.rmtree(folder)
    store.close()
    wait_until(lambda: not processes(folder))


def test_an_interrupt_at_the_terminal_does_not_reach_the_server(folder):
    # A shell may have started the tests in the background, which ignores interrupts.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    script = "ping(store); print('up', flush=True); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-c", heard + CLIENT + script, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    before = server_of(folder).pid
    # Somebody who stays: a server that nobody uses any more goes a moment later.
    store = EmbeddedStore(folder)
    ping(store)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    ping(store)
    assert server_of(folder).pid == before
    store.close()
