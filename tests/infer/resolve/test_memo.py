"""What a worker still has of a tower is what it computed, and never more than it may hold."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kvspark.infer.resolve.memo import Memo
from kvspark.spec import TensorSpec

SPECS = (TensorSpec("t", "float32", (3,)), TensorSpec("n", "int64"))
ROW_BYTES = 12 + 8 + 4 + 128


def rows_of(keys: list[int]) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.array(keys, dtype=np.int64)
    return np.repeat(numbers[:, None], 3, axis=1).astype(np.float32), numbers


def named(keys: list[int]) -> list[bytes]:
    return [key.to_bytes(4, "big") for key in keys]


@given(
    windows=st.lists(st.lists(st.integers(0, 30), unique=True, max_size=12), max_size=12),
    capacity=st.integers(0, 20),
)
def test_what_is_found_is_what_was_added_last(windows: list[list[int]], capacity: int) -> None:
    memo = Memo(SPECS, capacity * ROW_BYTES)
    lately: list[int] = []
    for window in windows:
        places = memo.places(named(window))
        found = [key for key, place in zip(window, places, strict=True) if place >= 0]
        assert found == [key for key in window if key in lately]
        vectors, numbers = memo.take(places[places >= 0])
        assert np.asarray(numbers).tolist() == found
        assert np.asarray(vectors).tolist() == rows_of(found)[0].tolist()
        new = [key for key in window if key not in found]
        memo.add(named(new), rows_of(new))
        lately = (lately + new)[-capacity:] if capacity else []


def test_a_key_is_found_at_its_place_after_the_ring_went_round() -> None:
    memo = Memo(SPECS, 4 * ROW_BYTES)
    for start in range(0, 30, 3):
        memo.add(named([start, start + 1, start + 2]), rows_of([start, start + 1, start + 2]))
    places = memo.places(named([25, 26, 27, 28, 29]))
    assert (places >= 0).tolist() == [False, True, True, True, True]
    assert np.asarray(memo.take(places[1:])[1]).tolist() == [26, 27, 28, 29]
