from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.store.resp import mget_reader as even_reply
from kvspark.store.resp.mget_reader import EvenReply
from tests.cache.stream import receiver

SIZE_BYTES = 12


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    """Two values are enough to be given before the rest has come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(even_reply, "PIECE_BYTES", 2 * SIZE_BYTES)
        yield


def bulk(value: bytes | None) -> bytes:
    return b"_\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def read(
    reply: EvenReply, receive: Callable[[memoryview], int], waits: list[bool]
) -> tuple[list[bytes], bool]:
    """The values that came in parts, and whether the reply was even to its end."""
    turns, found = list(waits), list[bytes]()
    while not reply.is_given:
        part = reply.more(receive, lambda: not turns or turns.pop())
        if part is None:
            return found, False
        assert len(part) > 0
        found += part.values()
        assert reply.given == len(found)
    return found, True


chunks = st.lists(st.integers(1, 30), max_size=40)
waits = st.lists(st.booleans(), max_size=20)
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
    waits=waits,
)
def test_values_of_the_expected_size_are_slabs(rows, sizes, beyond, waits):
    stream = b"*%d\r\n" % len(rows) + b"".join(map(bulk, rows))
    reply = EvenReply(len(rows), SIZE_BYTES, spare_bytes=0)
    assert read(reply, receiver(stream + beyond, sizes), waits) == (rows, True)
    assert not reply.received


def test_values_that_are_there_are_given_before_the_rest_is_waited_for():
    reply = EvenReply(9, SIZE_BYTES, spare_bytes=0)
    stream = b"*9\r\n" + bulk(b"x" * SIZE_BYTES) * 4
    part = reply.more(receiver(stream, []), lambda: True)
    assert part is not None
    # Of the last it is not known whether its end is right.
    assert part.values() == [b"x" * SIZE_BYTES] * 3
    assert not reply.is_given


@given(rows=values, sizes=chunks, waits=waits)
def test_any_other_reply_is_given_back_as_it_came_and_never_waited_for_in_vain(rows, sizes, waits):
    stream = b"*%d\r\n" % len(rows) + b"".join(map(bulk, rows))
    reply = EvenReply(len(rows), SIZE_BYTES, spare_bytes=0)
    found, is_even = read(reply, receiver(stream, sizes), waits)
    assert is_even == all(row is not None and len(row) == SIZE_BYTES for row in rows)
    assert found == rows[: len(found)]
    if not is_even:
        assert stream.startswith(reply.received.tobytes())


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
    reply = EvenReply(2, SIZE_BYTES, spare_bytes=1)
    assert read(reply, receiver(stream, sizes), []) == ([], False)
    assert stream.startswith(reply.received.tobytes())


def test_what_is_beyond_the_reply_is_told():
    stream = b"*1\r\n" + bulk(b"x" * SIZE_BYTES)
    reply = EvenReply(1, SIZE_BYTES, spare_bytes=1)
    assert read(reply, receiver(stream + b"+OK", []), []) == ([b"x" * SIZE_BYTES], True)
    assert reply.received.tobytes() == b"+"


def test_a_connection_that_is_closed_is_an_error():
    with pytest.raises(ConnectionResetError):
        EvenReply(1, SIZE_BYTES, spare_bytes=0).more(lambda room: 0, lambda: False)
