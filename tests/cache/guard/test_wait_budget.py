"""What a slow store may take of a job, and what it earns back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.guard.wait_budget import DEADLINES, FREE_S, SHARE, WaitBudget

TIMEOUT_S = 0.25


class Time:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def budget(time):
    return WaitBudget(TIMEOUT_S, clock=time)


def test_a_quick_store_owes_nothing(budget):
    for _ in range(1_000):
        budget.waited(FREE_S, calls=1, moved_s=0.0)
        budget.waited(1.0, calls=2, moved_s=1.0)
    assert not budget.is_owed
    assert not budget.is_spent


def test_four_deadlines_may_be_waited_in_vain(budget):
    for _ in range(DEADLINES - 1):
        budget.waited(TIMEOUT_S + FREE_S, calls=1, moved_s=0.0)
        assert not budget.is_spent
    budget.waited(TIMEOUT_S + FREE_S + 1e-6, calls=1, moved_s=0.0)
    assert budget.is_spent


def test_hits_pay_for_the_waiting_and_nothing_in_advance(budget):
    budget.saved(1_000.0)
    budget.waited(2.0, calls=1, moved_s=0.0)
    assert budget.is_spent
    budget.saved(1.5)
    assert budget.is_owed
    assert not budget.is_spent
    budget.saved(1.5)
    assert not budget.is_owed


def test_time_forgives(budget, time):
    budget.waited(1.5, calls=1, moved_s=0.0)
    assert budget.is_spent
    time.now += 1.0 / SHARE
    assert not budget.is_spent


@given(st.lists(st.tuples(st.floats(0, TIMEOUT_S), st.floats(0, 60)), max_size=200))
def test_what_is_waited_in_vain_is_a_share_of_the_run(calls):
    time = Time()
    budget = WaitBudget(TIMEOUT_S, clock=time)
    begun, waited_s = time.now, 0.0
    for took_s, pause_s in calls:
        time.now += pause_s
        if budget.is_spent:
            continue
        time.now += took_s
        budget.waited(took_s, calls=1, moved_s=0.0)
        waited_s += max(0.0, took_s - FREE_S)
    run_s = time.now - begun
    assert waited_s <= (DEADLINES + 1) * TIMEOUT_S + SHARE * run_s + 1e-6
