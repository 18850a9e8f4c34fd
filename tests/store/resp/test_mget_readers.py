from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.store.resp.mget_readers import EvenReplies
from tests.cache.stream import receiver

SIZE_BYTES = 12

values = st.lists(
    st.lists(st.binary(min_size=SIZE_BYTES, max_size=SIZE_BYTES), min_size=1, max_size=12),
    min_size=1,
    max_size=6,
)
chunks = st.lists(st.integers(1, 40), max_size=60)


def stream_of(replies: list[list[bytes]]) -> bytes:
    return b"".join(
        b"*%d\r\n" % len(reply) + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in reply)
        for reply in replies
    )


def expected(replies: list[list[bytes]]) -> EvenReplies:
    return EvenReplies([*map(len, replies)], SIZE_BYTES)


@given(replies=values, sizes=chunks, is_last=st.booleans())
def test_values_of_the_expected_size_come_as_a_table(replies, sizes, is_last):
    even = expected(replies)
    assert even.receive(receiver(stream_of(replies), sizes), is_last=is_last)
    assert not even.has_more
    assert even.values([*map(len, replies)]) == replies
    table = even.table()
    assert [row.tobytes() for row in table] == [value for reply in replies for value in reply]


@given(replies=values, sizes=chunks, data=st.data())
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
    assert not even.receive(receiver(stream, sizes), is_last=False)
    assert bytes(even.received) == stream[: len(even.received)]


@given(replies=values, sizes=chunks)
def test_what_comes_beyond_the_replies_is_told_where_it_is_asked_for(replies, sizes):
    even = expected(replies)
    assert even.receive(receiver(stream_of(replies) + b"+OK\r\n", []), is_last=True)
    assert even.has_more
    assert even.receive(receiver(stream_of(replies) + b"+OK\r\n", sizes), is_last=False)
    assert not even.has_more


@given(replies=values, sizes=chunks)
def test_replies_that_were_lost_on_their_way_begin_anew(replies, sizes):
    even, whole = expected(replies), stream_of(replies)
    lost = receiver(whole[: len(whole) // 2], sizes)
    with pytest.raises(AssertionError, match="do not come"):
        even.receive(lost, is_last=True)
    assert even.receive(receiver(whole, sizes), is_last=True)
    assert even.values([*map(len, replies)]) == replies


def test_a_connection_that_is_closed_is_an_error():
    with pytest.raises(ConnectionResetError):
        expected([[b"", b""]]).receive(lambda room: 0, is_last=True)
