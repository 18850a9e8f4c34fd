"""How many of what, as messages say it."""

from __future__ import annotations

import pytest

from kvspark.wording import count_of, micros


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "row", "0 rows"),
        (1, "row", "1 row"),
        (1200, "input file", "1,200 input files"),
        (1, "entry", "1 entry"),
        (2, "entry", "2 entries"),
        (2, "day", "2 days"),
        (3, "batch", "3 batches"),
        (1, "look-up", "1 look-up"),
    ],
)
def test_one_is_one_and_more_are_several(count: int, noun: str, text: str) -> None:
    assert count_of(count, noun) == text


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0.0, "< 0.1 us"),
        (0.04, "< 0.1 us"),
        (0.05, "0.1 us"),
        (9.94, "9.9 us"),
        (1234.5, "1,234 us"),
    ],
)
def test_no_number_is_told_that_a_clock_does_not_tell(us: float, text: str) -> None:
    assert micros(us) == text
