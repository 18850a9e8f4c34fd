from __future__ import annotations

import pytest

from kvspark.store.breaker import FAILURES, JITTER, PAUSE_S, Breaker


class Time:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def breaker(time):
    return Breaker(clock=time, chance=lambda: 0.5)


def fail(breaker: Breaker, times: int) -> list[bool]:
    return [breaker.failed("timeout") for _ in range(times)]


def test_it_opens_at_the_third_failure_in_a_row_and_says_so_once(breaker):
    assert fail(breaker, FAILURES + 1) == [False, False, True, False]
    assert not breaker.allows()
    assert breaker.reason == "timeout"


def test_a_success_in_between_starts_the_count_again(breaker):
    fail(breaker, FAILURES - 1)
    breaker.succeeded()
    fail(breaker, FAILURES - 1)
    assert breaker.allows()


def test_after_a_pause_one_call_may_try(breaker, time):
    fail(breaker, FAILURES)
    time.now += PAUSE_S - 0.1
    assert not breaker.allows()
    time.now += 0.1
    assert [breaker.allows() for _ in range(5)] == [True, False, False, False, False]


def test_the_call_that_tries_closes_it_or_opens_it_again(breaker, time):
    fail(breaker, FAILURES)
    time.now += PAUSE_S
    assert breaker.allows()
    assert not breaker.failed("timeout")
    assert not breaker.allows()
    time.now += PAUSE_S
    assert breaker.allows()
    breaker.succeeded()
    assert breaker.allows()
    assert breaker.reason == ""


def test_a_call_that_tried_and_never_told_is_followed_by_another(breaker, time):
    fail(breaker, FAILURES)
    time.now += PAUSE_S
    assert breaker.allows()
    time.now += PAUSE_S
    assert breaker.allows()


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 1 - JITTER), (1.0, 1 + JITTER)])
def test_pauses_differ_between_workers(time, chance, pause):
    breaker = Breaker(clock=time, chance=lambda: chance)
    breaker.trip("full")
    time.now += PAUSE_S * pause - 0.01
    assert not breaker.allows()
    time.now += 0.02
    assert breaker.allows()


def test_what_is_open_for_good_stays_open_whatever_happens(breaker, time):
    assert breaker.trip("refused", for_good=True)
    breaker.succeeded()
    fail(breaker, 5)
    breaker.trip("full")
    time.now += 1e9
    assert not breaker.allows()
    assert breaker.reason == "refused"
