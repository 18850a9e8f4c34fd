from __future__ import annotations

import os
import threading

import pytest

from kvspark.cache.work_queue import WorkQueue

PATIENT_S = 20.0


def put(queue: WorkQueue[int], piece: int) -> bool:
    with queue.changed:
        return queue.add(piece)


def is_idle(queue: WorkQueue[int]) -> bool:
    with queue.changed:
        return queue.changed.wait_for(
            lambda: not queue.waiting and queue.at_work is None, timeout=PATIENT_S
        )


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "pieces"]


def test_pieces_are_done_in_their_order_by_a_thread_that_ends_with_the_last() -> None:
    done: list[int] = []
    goes_on = threading.Event()

    def work(piece: int) -> None:
        assert goes_on.wait(PATIENT_S)
        done.append(piece)

    queue = WorkQueue(work, "pieces")
    for first in (0, 10):
        goes_on.clear()
        assert all(put(queue, first + piece) for piece in range(5))
        assert len(threads()) == 1
        goes_on.set()
        assert is_idle(queue)
        for thread in threads():
            thread.join(PATIENT_S)
        assert not threads()
    assert done == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]


def test_where_there_is_no_thread_to_be_had_nothing_is_left_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[int] = []
    queue = WorkQueue(done.append, "pieces")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert not put(queue, 1)
        assert not queue.waiting
    assert put(queue, 2)
    assert is_idle(queue)
    assert done == [2]


def test_a_forked_child_knows_that_it_is_not_its_own() -> None:
    queue = WorkQueue[int](lambda piece: None, "pieces")
    assert queue.is_own
    pid = os.fork()
    if pid == 0:  # the child: leave without pytest's own end
        os._exit(1 if queue.is_own else 0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
