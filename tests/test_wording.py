"""How many of what, as messages say it."""

from __future__ import annotations

import pytest

from kvspark.wording import count_of


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
