from __future__ import annotations

from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from kvspark.store.redis.replay import Repeatable


@given(count=st.integers(0, 9), asked=st.lists(st.integers(0, 9), max_size=4))
def test_windows_are_given_from_the_first_one_each_time(count, asked):
    repeatable = Repeatable(iter(range(count)))
    for some in asked:
        assert [*islice(repeatable, some)] == [*range(min(some, count))]
    assert [*repeatable] == [*range(count)]


@given(before=st.integers(0, 5), after=st.integers(0, 5))
def test_what_was_settled_is_not_given_again(before, after):
    repeatable = Repeatable(iter(range(10)))
    windows = iter(repeatable)
    given_before = [*islice(windows, before)]
    repeatable.settle()
    assert repeatable.is_settled
    assert [*given_before, *islice(windows, after)] == [*range(before + after)]
    assert [*repeatable] == [*range(before + after, 10)]


def test_no_more_is_read_than_was_asked_for():
    read: list[int] = []

    def windows():
        for each in range(9):
            read.append(each)
            yield each

    assert [*islice(Repeatable(windows()), 2)] == [0, 1]
    assert read == [0, 1]
