from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvspark.store.resp.command import mget
from kvspark.store.resp.mget_by_tag import gets, tagged_gets
from kvspark.store.resp.slots import slot_of_tag, tag_of

TAGS = st.binary(min_size=2, max_size=2)


@given(
    prefix=st.binary(max_size=6),
    tags=st.lists(TAGS, min_size=1, max_size=40),
    tail_bytes=st.integers(0, 20),
)
def test_keys_of_one_form_are_asked_for_as_keys_of_any_form(prefix, tags, tail_bytes):
    keys = [prefix + b"{" + tag + b"}" + bytes(tail_bytes) for tag in tags]
    asked_for = tagged_gets(keys)
    if asked_for is None:
        assert b"{" in prefix or any(byte in tag for tag in tags for byte in b"{}")
        return
    order, slots, counts, commands = asked_for
    assert sorted(order) == list(range(len(keys)))
    assert len(slots) == len(set(tags))
    at = 0
    for slot, count, said in zip(slots, counts, commands, strict=True):
        asked = [keys[place] for place in order[at : at + count]]
        assert said == mget(asked)
        assert {slot_of_tag(tag_of(key)) for key in asked} == {slot}
        at += count


def test_keys_of_several_forms_are_left_to_the_other_way():
    for other in (b"", b"k1s....ff}1", b"x1s....{ff}1", b"k1s....{ff1", b"k1s....{}1"):
        assert tagged_gets([b"k1s....{00}0", other]) is None


def test_keys_as_short_as_a_tag_are_asked_for():
    for key in (b"ab", b"{}", b"{}a", b"{a"):
        assert gets([key]).commands == [mget([key])]
