from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.codec import CODEC_NAMES, codec_coded, codec_named
from kvspark.errors import UsageError

NAMES = list(CODEC_NAMES)


@pytest.mark.parametrize("name", NAMES)
@given(numbers=st.binary(max_size=250), item_bytes=st.sampled_from([1, 2, 4, 8]))
def test_decode_inverts_encode(name, numbers, item_bytes):
    codec, raw = codec_named(name), numbers * item_bytes
    payload = memoryview(codec.encode(raw, item_bytes))
    assert codec.decode(payload, len(raw), item_bytes) == raw


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong_len", [0, 99, 101, 10_000])
def test_a_payload_of_another_length_is_refused(name, wrong_len):
    codec = codec_named(name)
    with pytest.raises(ValueError, match="bytes"):
        codec.decode(memoryview(codec.encode(bytes(range(100)), 4)), wrong_len, 4)


@pytest.mark.parametrize("name", NAMES)
@given(payload=st.binary(max_size=200), raw_len=st.integers(0, 1_000))
def test_any_payload_is_decoded_or_refused(name, payload, raw_len):
    try:
        raw = codec_named(name).decode(memoryview(payload), raw_len, 4)
    except ValueError:
        return
    assert len(raw) == raw_len


CODES = {
    "raw": 0,
    "zstd": 1,
    "lz4": 2,
    "snappy": 3,
    "zlib": 4,
    "shuffle-zstd": 17,
    "shuffle-lz4": 18,
    "shuffle-snappy": 19,
    "shuffle-zlib": 20,
}


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_codes_are_never_given_to_another_codec(name, code):
    codec = codec_coded(code)
    assert codec is not None
    assert codec.name == name


def test_an_unknown_codec_is_a_usage_error_that_names_the_known_ones():
    with pytest.raises(UsageError, match=r"raw, .*zstd"):
        codec_named("zst")


def test_an_unknown_code_is_none():
    assert codec_coded(200) is None


def test_a_byte_shuffle_lets_bfloat16_shrink_further():
    random = np.random.default_rng(0)
    raw = random.normal(0.0, 0.05, 4_096).astype("<f4").view("<u2")[1::2].tobytes()
    plain, shuffled = (len(codec_named(n).encode(raw, 2)) for n in ("zstd", "shuffle-zstd"))
    assert shuffled < plain < len(raw)
