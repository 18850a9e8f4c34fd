from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.store.redis.even_replies import EvenReplies, NodeReplies
from tests.cache.stream import receiver

SIZE_BYTES = 12

values = st.lists(
    st.lists(st.binary(min_size=SIZE_BYTES, max_size=SIZE_BYTES), min_size=1, max_size=12),
    min_size=1,
    max_size=6,
)
nodes = st.lists(values, min_size=1, max_size=4)
chunks = st.lists(st.integers(1, 40), max_size=60)


def stream_of(replies: list[list[bytes]]) -> bytes:
    return b"".join(
        b"*%d\r\n" % len(reply) + b"".join(b"$%d\r\n%b\r\n" % (len(each), each) for each in reply)
        for reply in replies
    )


def one_node(replies: list[list[bytes]]) -> NodeReplies:
    (node,) = EvenReplies([[*map(len, replies)]], SIZE_BYTES).nodes
    return node


@given(told=nodes, sizes=st.lists(chunks, min_size=4, max_size=4), data=st.data())
def test_values_of_the_expected_size_go_to_their_places(told, sizes, data):
    even = EvenReplies([[*map(len, replies)] for replies in told], SIZE_BYTES)
    parts = [*zip(even.nodes, told, sizes, strict=False)]
    # Nodes answer in any order, and write where others do not.
    for node, replies, own in data.draw(st.permutations(parts)):
        is_last = data.draw(st.booleans())
        assert node.receive(receiver(stream_of(replies), own), is_last=is_last)
        assert not node.has_more
        assert node.values([*map(len, replies)]) == replies
    expected = [value for replies in told for reply in replies for value in reply]
    places = np.array(data.draw(st.permutations(range(len(expected)))))
    table = even.values(even.in_order(places))
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
    node = one_node(replies)
    assert not node.receive(receiver(stream, sizes), is_last=False)
    assert bytes(node.received) == stream[: len(node.received)]


@given(replies=values, sizes=chunks)
def test_what_comes_beyond_the_replies_is_told_where_it_is_asked_for(replies, sizes):
    node = one_node(replies)
    assert node.receive(receiver(stream_of(replies) + b"+OK\r\n", []), is_last=True)
    assert node.has_more
    assert node.receive(receiver(stream_of(replies) + b"+OK\r\n", sizes), is_last=False)
    assert not node.has_more


@given(replies=values, sizes=chunks)
def test_replies_that_were_lost_on_their_way_begin_anew(replies, sizes):
    node, whole = one_node(replies), stream_of(replies)
    lost = receiver(whole[: len(whole) // 2], sizes)
    with pytest.raises(AssertionError, match="do not come"):
        node.receive(lost, is_last=True)
    assert node.receive(receiver(whole, sizes), is_last=True)
    assert node.values([*map(len, replies)]) == replies


def test_a_connection_that_is_closed_is_an_error():
    with pytest.raises(ConnectionResetError):
        one_node([[b"", b""]]).receive(lambda room: 0, is_last=True)
