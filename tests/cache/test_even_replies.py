from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.store.redis import even_replies
from kvspark.cache.store.redis.even_replies import EvenReplies
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


@given(replies=values, sizes=chunks, seed=st.integers(0, 99), is_large=st.booleans())
def test_values_of_the_expected_size_go_to_their_places(replies, sizes, seed, is_large):
    even = EvenReplies([*map(len, replies)], SIZE_BYTES, spare_bytes=1)
    assert even.receive(receiver(stream_of(replies), sizes))
    assert not even.has_more
    expected = [value for reply in replies for value in reply]
    assert even.values() == expected
    places = np.random.default_rng(seed).permutation(len(expected))
    table = np.zeros((len(expected), SIZE_BYTES), dtype=np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(even_replies, "LARGE_BYTES", 1 if is_large else 1 << 20)
        even.copy_to(table, places)
    assert [table[place].tobytes() for place in places] == expected


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
    even = EvenReplies([*map(len, replies)], SIZE_BYTES, spare_bytes=0)
    assert not even.receive(receiver(stream, sizes))
    assert bytes(even.received) == stream[: len(even.received)]


@given(replies=values, sizes=chunks)
def test_what_comes_beyond_the_replies_is_told_where_it_is_asked_for(replies, sizes):
    even = EvenReplies([*map(len, replies)], SIZE_BYTES, spare_bytes=1)
    assert even.receive(receiver(stream_of(replies) + b"+OK\r\n", []))
    assert even.has_more
    alone = EvenReplies([*map(len, replies)], SIZE_BYTES, spare_bytes=0)
    assert alone.receive(receiver(stream_of(replies) + b"+OK\r\n", sizes))
    assert not alone.has_more


def test_a_connection_that_is_closed_is_an_error():
    even = EvenReplies([2], SIZE_BYTES, spare_bytes=0)
    with pytest.raises(ConnectionResetError):
        even.receive(lambda room: 0)
