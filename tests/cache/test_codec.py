from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.codec import codec_coded, codec_named
from kvspark.errors import UsageError

NAMES = ["raw", "zstd"]


@pytest.mark.parametrize("name", NAMES)
@given(raw=st.binary(max_size=2_000))
def test_decode_inverts_encode(name, raw):
    codec = codec_named(name)
    assert codec.decode(memoryview(codec.encode(raw)), len(raw)) == raw


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong_len", [0, 99, 101, 10_000])
def test_a_payload_of_another_length_is_refused(name, wrong_len):
    codec = codec_named(name)
    with pytest.raises(ValueError, match="bytes"):
        codec.decode(memoryview(codec.encode(bytes(range(100)))), wrong_len)


@pytest.mark.parametrize("name", NAMES)
@given(payload=st.binary(max_size=200), raw_len=st.integers(0, 1_000))
def test_any_payload_is_decoded_or_refused(name, payload, raw_len):
    try:
        raw = codec_named(name).decode(memoryview(payload), raw_len)
    except ValueError:
        return
    assert len(raw) == raw_len


@pytest.mark.parametrize(("name", "code"), [("raw", 0), ("zstd", 1)])
def test_codes_are_never_given_to_another_codec(name, code):
    codec = codec_coded(code)
    assert codec is not None
    assert codec.name == name


def test_an_unknown_codec_is_a_usage_error_that_names_the_known_ones():
    with pytest.raises(UsageError, match="raw, zstd"):
        codec_named("zst")


def test_an_unknown_code_is_none():
    assert codec_coded(200) is None
