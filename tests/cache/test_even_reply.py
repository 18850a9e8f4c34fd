from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.store.redis.even_reply import read_even

SIZE_BYTES = 12


def bulk(value: bytes | None) -> bytes:
    return b"_\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def receiver(stream: bytes, sizes: list[int]) -> Callable[[memoryview], int]:
    """Gives out `stream`, so many bytes at a time; who asks when all is there would wait for ever."""
    left, turns = bytearray(stream), list(sizes)

    def recv_into(room: memoryview) -> int:
        assert left, "waits for bytes that do not come"
        size = min(len(room), len(left), turns.pop() if turns else len(left))
        room[:size] = left[:size]
        del left[:size]
        return size

    return recv_into


chunks = st.lists(st.integers(1, 30), max_size=40)
values = st.lists(
    st.one_of(
        st.none(),
        st.binary(min_size=SIZE_BYTES, max_size=SIZE_BYTES),
        st.binary(max_size=130),
    ),
    min_size=1,
    max_size=8,
)


@given(
    rows=st.lists(
        st.binary(min_size=SIZE_BYTES, max_size=SIZE_BYTES)
        | st.just(b"\r\n$12\r\n_\r\n*1"[:SIZE_BYTES]),
        min_size=1,
        max_size=8,
    ),
    sizes=chunks,
    beyond=st.binary(max_size=3),
)
def test_values_of_the_expected_size_are_a_slab(rows, sizes, beyond):
    stream = b"*%d\r\n" % len(rows) + b"".join(map(bulk, rows))
    receive = receiver(stream + beyond, sizes)
    slab, more = read_even(receive, len(rows), SIZE_BYTES, spare_bytes=0)
    assert slab is not None
    assert slab.values() == rows
    assert not more


@given(rows=values, sizes=chunks)
def test_any_other_reply_is_given_back_as_it_came_and_never_waited_for_in_vain(rows, sizes):
    stream = b"*%d\r\n" % len(rows) + b"".join(map(bulk, rows))
    slab, received = read_even(receiver(stream, sizes), len(rows), SIZE_BYTES, spare_bytes=0)
    is_even = all(row is not None and len(row) == SIZE_BYTES for row in rows)
    assert (slab is not None) == is_even
    if slab is None:
        assert stream.startswith(received.tobytes())
    else:
        assert slab.values() == rows


@pytest.mark.parametrize(
    "stream",
    [
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-E\r\n",
        b"*-1\r\n",
        b"_\r\n",
        b"*1\r\n_\r\n",
        b"*2\r\n$-1\r\n$-1\r\n",
        b"*2\r\n$12\r\n123456789012\r\n$-1\r\n",
        b"*2\r\n$1\r\n1\r\n$1\r\n1\r\n",
        b"+OK\r\n",
    ],
)
@pytest.mark.parametrize("sizes", [[], [1] * 60])
def test_a_reply_that_is_shorter_is_noticed_when_it_is_there(stream, sizes):
    slab, received = read_even(receiver(stream, sizes), 2, SIZE_BYTES, spare_bytes=1)
    assert slab is None
    assert stream.startswith(received.tobytes())


def test_what_is_beyond_the_reply_is_told():
    stream = b"*1\r\n" + bulk(b"x" * SIZE_BYTES)
    slab, beyond = read_even(receiver(stream + b"+OK", []), 1, SIZE_BYTES, spare_bytes=1)
    assert slab is not None
    assert beyond.tobytes() == b"+"


def test_a_connection_that_is_closed_is_an_error():
    with pytest.raises(ConnectionResetError):
        read_even(lambda room: 0, 1, SIZE_BYTES, spare_bytes=0)
