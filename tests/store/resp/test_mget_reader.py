from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.store.resp import mget_reader
from kvspark.store.resp.mget_reader import EvenReplies
from tests.store.resp.stream import receiver

SIZE_BYTES = 12


@pytest.fixture(autouse=True, scope="module")
def small_pieces() -> Iterator[None]:
    """Two values are enough to be given before the rest has come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mget_reader, "PIECE_BYTES", 2 * SIZE_BYTES)
        yield


def bulk(value: bytes | None) -> bytes:
    return b"_\r\n" if value is None else b"$%d\r\n%b\r\n" % (len(value), value)


def stream_of(replies: list[list[bytes]]) -> bytes:
    return b"".join(b"*%d\r\n" % len(reply) + b"".join(map(bulk, reply)) for reply in replies)


def expected(replies: list[list[bytes]]) -> EvenReplies:
    return EvenReplies(tuple(map(len, replies)), SIZE_BYTES)


def read(
    reply: EvenReplies,
    receive: Callable[[memoryview], int],
    waits: list[bool],
    *,
    is_last: bool = False,
) -> tuple[list[bytes], bool]:
    """The values that came in parts, and whether the replies were even to their end."""
    turns, found = list(waits), list[bytes]()
    while not reply.is_given:
        part = reply.more(receive, lambda: not turns or turns.pop(), is_last=is_last)
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
    reply = EvenReplies((len(rows),), SIZE_BYTES)
    assert read(reply, receiver(stream + beyond, sizes), waits) == (rows, True)
    assert not reply.received


def test_values_that_are_there_are_given_before_the_rest_is_waited_for():
    reply = EvenReplies((9,), SIZE_BYTES)
    stream = b"*9\r\n" + bulk(b"x" * SIZE_BYTES) * 4
    part = reply.more(receiver(stream, []), lambda: True, is_last=True)
    assert part is not None
    # Of the last it is not known whether its end is right.
    assert part.values() == [b"x" * SIZE_BYTES] * 3
    assert not reply.is_given


@given(rows=values, sizes=chunks, waits=waits)
def test_any_other_reply_is_given_back_as_it_came_and_never_waited_for_in_vain(rows, sizes, waits):
    stream = b"*%d\r\n" % len(rows) + b"".join(map(bulk, rows))
    reply = EvenReplies((len(rows),), SIZE_BYTES)
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
    reply = EvenReplies((2,), SIZE_BYTES)
    assert read(reply, receiver(stream, sizes), [], is_last=True) == ([], False)
    assert stream.startswith(reply.received.tobytes())


def test_what_is_beyond_the_reply_is_told():
    stream = b"*1\r\n" + bulk(b"x" * SIZE_BYTES)
    reply = EvenReplies((1,), SIZE_BYTES)
    found = read(reply, receiver(stream + b"+OK", []), [], is_last=True)
    assert found == ([b"x" * SIZE_BYTES], True)
    assert reply.received.tobytes() == b"+"


def test_a_connection_that_is_closed_is_an_error():
    with pytest.raises(ConnectionResetError):
        EvenReplies((1,), SIZE_BYTES).more(lambda room: 0, lambda: False, is_last=False)


replies = st.lists(
    st.lists(st.binary(min_size=SIZE_BYTES, max_size=SIZE_BYTES), min_size=1, max_size=12),
    min_size=2,
    max_size=6,
)


@given(replies=replies, sizes=chunks, waits=waits, is_last=st.booleans())
def test_values_of_several_replies_come_as_one_slab(replies, sizes, waits, is_last):
    even, turns = expected(replies), list(waits)
    receive = receiver(stream_of(replies), sizes)
    slab = even.more(receive, lambda: not turns or turns.pop(), is_last=is_last)
    assert slab is not None
    assert slab.values() == [value for reply in replies for value in reply]
    assert even.is_given
    assert not even.received


@given(replies=replies, sizes=chunks, data=st.data())
def test_a_reply_that_is_another_one_is_noticed_before_more_is_waited_for(replies, sizes, data):
    row = data.draw(st.integers(0, len(replies) - 1))
    other = data.draw(
        st.sampled_from(
            [
                b"-MOVED 1 127.0.0.1:1\r\n",
                b"_\r\n",
                b"*1\r\n_\r\n",
                b"$12\r\n" + b"x" * 12 + b"\r\n",
            ]
        )
        | st.binary(min_size=SIZE_BYTES + 1, max_size=99).map(lambda each: stream_of([[each]]))
    )
    told = [stream_of([reply]) for reply in replies]
    told[row] = other
    stream = b"".join(told)
    even = expected(replies)
    assert read(even, receiver(stream, sizes), []) == ([], False)
    assert bytes(even.received) == stream[: len(even.received)]


@given(replies=replies, sizes=chunks)
def test_what_comes_beyond_several_replies_is_received_where_they_are_the_last(replies, sizes):
    even = expected(replies)
    read(even, receiver(stream_of(replies) + b"+OK\r\n", []), [], is_last=True)
    assert bytes(even.received) == b"+"
    even = expected(replies)
    read(even, receiver(stream_of(replies) + b"+OK\r\n", sizes), [])
    assert not even.received


@given(replies=replies, sizes=chunks)
def test_replies_that_were_lost_on_their_way_begin_anew(replies, sizes):
    even, whole = expected(replies), stream_of(replies)
    lost = receiver(whole[: len(whole) // 2], sizes)
    with pytest.raises(AssertionError, match="do not come"):
        even.more(lost, lambda: True, is_last=True)
    found = read(even, receiver(whole, sizes), [], is_last=True)
    assert found == ([value for reply in replies for value in reply], True)
