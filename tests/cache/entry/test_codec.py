from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.entry.codec import CODEC_NAMES, codec_coded, codec_named
from kvspark.errors import UsageError

NAMES = list(CODEC_NAMES)


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


CODES = {"raw": 0, "zstd": 1, "lz4": 2, "snappy": 3, "zlib": 4}
GONE = {"shuffle-zstd": 17, "shuffle-lz4": 18, "shuffle-snappy": 19, "shuffle-zlib": 20}

ENCODED = {
    "zstd": "28b52ffd2040750000406b76737061726b200100dd59b8",
    "lz4": "04224d18604082120000008f6b76737061726b20080020507061726b2000000000",
    "snappy": "401c6b76737061726b20de0800",
    "zlib": "1f8b0800000000000203cb2e2b2e482cca56c826930600c7ef54a240000000",
}
"""What releases before this one wrote for `TEXT`."""
TEXT = b"kvspark " * 8


@pytest.mark.parametrize(("name", "code"), CODES.items())
def test_codes_are_never_given_to_another_codec(name, code):
    codec = codec_coded(code)
    assert codec is not None
    assert codec.name == name


@pytest.mark.parametrize(("name", "stored"), ENCODED.items())
def test_what_was_encoded_before_is_decoded(name, stored):
    assert codec_named(name).decode(memoryview(bytes.fromhex(stored)), len(TEXT)) == TEXT


@pytest.mark.parametrize(("name", "code"), GONE.items())
def test_a_codec_that_is_gone_says_what_to_write_and_leaves_its_code_to_nobody(name, code):
    assert codec_coded(code) is None
    with pytest.raises(UsageError, match=f"codec {name} is gone: write {name[8:]};"):
        codec_named(name)


def test_an_unknown_codec_is_a_usage_error_that_names_the_known_ones():
    with pytest.raises(UsageError, match=r"raw, .*zstd"):
        codec_named("zst")


def test_an_unknown_code_is_none():
    assert codec_coded(200) is None
