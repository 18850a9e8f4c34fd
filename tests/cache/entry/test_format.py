from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from kvspark.cache.entry.codec import CODEC_NAMES, codec_named
from kvspark.cache.entry.format import EntryFormat
from kvspark.cache.entry.header import FOREIGN, MISPLACED, OVERSIZE, UNEXPECTED
from kvspark.cache.seal.base import CORRUPT
from kvspark.errors import UsageError
from kvspark.spec import TensorSpec
from tests.cache.strategies import Columns, all_same_bits, columns, digests, same_bits
from tests.faults.matrix import covers

GOLDEN = Path(__file__).parents[1] / "golden"
CODECS = list(CODEC_NAMES)
MUTATED = ["raw", "zstd", "zlib"]
EMBEDDING = (TensorSpec("embedding", "float32", (4,)),)


def encoded(specs, cols, digs, codec="raw", **options):
    entries = EntryFormat(specs, codec_named(codec), **options).encode_many(
        digs, cols, created_s=1_700_000_000, cost_us=1_234
    )
    assert None not in entries
    return entries


def one_embedding(codec="raw"):
    """A format, a digest and the value of one row."""
    (digest,) = digests(1)
    rows = np.arange(4, dtype="<f4").reshape(1, 4)
    return EntryFormat(EMBEDDING), digest, encoded(EMBEDDING, (rows,), [digest], codec)[0]


def resealed(value: bytes) -> bytes:
    """`value` with a checksum that is right for its bytes."""
    return value[:-8] + xxh3_64_digest(value[:-8])


def changed(value: bytes, at: int, new: bytes) -> bytes:
    return value[:at] + new + value[at + len(new) :]


@pytest.mark.parametrize("codec", CODECS)
@given(drawn=columns())
def test_what_is_encoded_is_decoded_bit_for_bit(codec: str, drawn: Columns):
    specs, cols, digs = drawn
    decoded = EntryFormat(specs).decode_many(encoded(specs, cols, digs, codec), digs)
    assert decoded.found.all()
    assert not decoded.reasons
    assert all_same_bits(cols, decoded.columns)
    assert all(
        isinstance(column, np.ndarray) == spec.is_fixed
        for spec, column in zip(specs, decoded.columns, strict=True)
    )


@given(drawn=columns(varying=False), data=st.data())
def test_any_pattern_of_hits_codecs_and_odd_values_gives_the_right_rows_in_order(
    drawn: Columns, data: st.DataObject
):
    specs, cols, digs = drawn
    by_codec = {codec: encoded(specs, cols, digs, codec) for codec in CODECS}
    choices = st.sampled_from([*CODECS, "missing", "odd"])
    picked = data.draw(st.lists(choices, min_size=len(digs), max_size=len(digs)))
    values = [
        None if kind == "missing" else b"odd" if kind == "odd" else by_codec[kind][row]
        for row, kind in enumerate(picked)
    ]
    decoded = EntryFormat(specs).decode_many(values, digs)
    expected = [kind in CODECS for kind in picked]
    assert decoded.found.tolist() == expected
    assert sum(decoded.reasons.values()) == picked.count("odd")
    for column, found in zip(cols, decoded.columns, strict=True):
        assert isinstance(column, np.ndarray)
        assert same_bits(column[np.array(expected, dtype=bool)], found)


@given(flips=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 75)), max_size=3, unique=True))
def test_of_many_entries_only_the_damaged_ones_are_misses(flips: list[tuple[int, int]]):
    rows = np.arange(160, dtype="<f4").reshape(40, 4)
    digs = digests(40)
    values = encoded(EMBEDDING, (rows,), digs)
    for row, at in flips:
        values[row] = changed(values[row], at, bytes([values[row][at] ^ 1]))
    decoded = EntryFormat(EMBEDDING).decode_many(values, digs)
    damaged = {row for row, _ in flips}
    assert decoded.found.tolist() == [row not in damaged for row in range(40)]
    assert same_bits(rows[decoded.found], decoded.columns[0])
    assert sum(decoded.reasons.values()) == len(damaged)


def test_the_same_damage_to_two_entries_does_not_cancel_out():
    rows = np.arange(8, dtype="<f4").reshape(2, 4)
    digs = digests(2)
    values = [changed(each, 60, b"\xff") for each in encoded(EMBEDDING, (rows,), digs)]
    decoded = EntryFormat(EMBEDDING).decode_many(values, digs)
    assert decoded.reasons == {CORRUPT: 2}


def test_the_bytes_of_an_entry_are_the_committed_ones():
    specs = (TensorSpec("hidden", "bfloat16", (None, 2)), TensorSpec("mask", "bool", (3,)))
    cols = ([np.array([[1, 2], [3, 65_535]], dtype="<u2")], np.array([[True, False, True]]))
    golden = bytes.fromhex((GOLDEN / "entry_v2.hex").read_text())
    digest = bytes(range(32))
    assert encoded(specs, cols, [digest]) == [golden]
    decoded = EntryFormat(specs).decode_many([golden], [digest])
    assert decoded.found.tolist() == [True]
    assert all_same_bits(cols, decoded.columns)


def test_the_bytes_of_an_entry_of_fixed_size_are_the_committed_ones():
    specs = (TensorSpec("embedding", "float32", (3,)), TensorSpec("label", "int64", ()))
    cols = (np.array([[0.5, -0.0, np.inf]], dtype="<f4"), np.array([-2], dtype="<i8"))
    golden = bytes.fromhex((GOLDEN / "entry_fixed_v2.hex").read_text())
    digest = bytes(range(32))
    assert encoded(specs, cols, [digest]) == [golden]
    decoded = EntryFormat(specs).decode_many([golden], [digest])
    assert all_same_bits(cols, decoded.columns)


@covers("B17")
def test_entries_swapped_between_two_keys_are_misses():
    rows = np.arange(8, dtype="<f4").reshape(2, 4)
    digs = digests(2)
    first, second = encoded(EMBEDDING, (rows,), digs)
    decoded = EntryFormat(EMBEDDING).decode_many([second, first], digs)
    assert not decoded.found.any()
    assert decoded.reasons == {MISPLACED: 2}


@covers("B17")
@pytest.mark.parametrize("codec", MUTATED)
def test_a_mutated_entry_never_raises_and_never_gives_a_wrong_row(codec):
    entry_format, digest, value = one_embedding(codec)
    random = np.random.default_rng(20_240_607)
    refused = 0
    for _ in range(20_000):
        mutated = mutate(random, value)
        decoded = entry_format.decode_many([mutated], [digest])
        if mutated != value:
            assert not decoded.found.any()
            assert sum(decoded.reasons.values()) == 1
            refused += 1
    assert refused > 19_000


@pytest.mark.parametrize("codec", MUTATED)
@pytest.mark.parametrize("specs", [EMBEDDING, (TensorSpec("t", "float32", (None, None)),)])
def test_a_mutated_entry_with_a_right_checksum_never_raises(codec, specs):
    (digest,) = digests(1)
    rows = np.arange(4, dtype="<f4").reshape(1, 4)
    column = rows if specs == EMBEDDING else [rows]
    (value,) = encoded(specs, (column,), [digest], codec)
    random = np.random.default_rng(7)
    for _ in range(10_000):
        mutated = resealed(mutate(random, value))
        decoded = EntryFormat(specs).decode_many([mutated], [digest])
        assert decoded.found.sum() + sum(decoded.reasons.values()) == 1


def mutate(random: np.random.Generator, value: bytes) -> bytes:
    """`value` with a few bytes changed, or cut, or with bytes put in."""
    kind = random.integers(4)
    at = int(random.integers(len(value)))
    if kind == 0:
        return value[:at]
    if kind == 1:
        return value[:at] + random.bytes(int(random.integers(1, 9))) + value[at:]
    if kind == 2:
        return changed(value, at, random.bytes(int(random.integers(1, 5))))[: len(value)]
    return changed(value, at, bytes([value[at] ^ (1 << int(random.integers(8)))]))


@pytest.mark.parametrize(
    ("at", "new", "reason"),
    [
        pytest.param(0, b"X", FOREIGN, id="magic"),
        pytest.param(4, b"\x01", FOREIGN, id="version"),
        pytest.param(5, b"\x01", FOREIGN, id="sealed"),
        pytest.param(5, b"\x02", FOREIGN, id="negative"),
        pytest.param(5, b"\x80", FOREIGN, id="unknown flag"),
        pytest.param(6, b"\xc8", FOREIGN, id="unknown codec"),
        pytest.param(6, b"\x11", FOREIGN, id="codec that is gone"),
        pytest.param(7, b"\x02", UNEXPECTED, id="tensor count"),
        pytest.param(8, b"\x01", FOREIGN, id="key id"),
        pytest.param(10, b"\x01", FOREIGN, id="reserved"),
        pytest.param(12, struct.pack("<I", 17), CORRUPT, id="raw_len"),
        pytest.param(12, struct.pack("<I", 2**32 - 1), OVERSIZE, id="huge raw_len"),
        pytest.param(16, struct.pack("<I", 2**32 - 1), CORRUPT, id="huge payload_len"),
        pytest.param(30, b"\xff", MISPLACED, id="digest"),
        pytest.param(44, b"\x02", UNEXPECTED, id="dtype"),
        pytest.param(45, b"\x00", UNEXPECTED, id="ndim"),
        pytest.param(48, b"\x05", UNEXPECTED, id="dim"),
    ],
)
@pytest.mark.parametrize("codec", CODECS)
def test_a_header_that_differs_is_a_miss_with_its_reason(codec, at, new, reason):
    entry_format, digest, value = one_embedding(codec)
    wrong = resealed(changed(value, at, new))
    decoded = entry_format.decode_many([wrong], [digest])
    assert not decoded.found.any()
    assert decoded.reasons == {reason: 1}


@covers("B17")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", CORRUPT),
        (b"KVS", CORRUPT),
        (b"KVS1\x02\x00", CORRUPT),
        (b"some other program's value", FOREIGN),
        (b"\x80\x04\x95pickle", FOREIGN),
        (bytes(5 * 2**20), OVERSIZE),
    ],
)
def test_a_value_that_is_no_entry_is_a_miss_with_its_reason(value, reason):
    decoded = EntryFormat(EMBEDDING).decode_many([value], digests(1))
    assert decoded.reasons == {reason: 1}


@covers("B17")
def test_an_entry_of_a_stage_with_other_tensors_is_unexpected():
    _, digest, value = one_embedding()
    other = EntryFormat((TensorSpec("embedding", "float16", (8,)),))
    assert other.decode_many([value], [digest]).reasons == {UNEXPECTED: 1}


def test_dims_that_no_array_can_have_are_a_miss():
    specs = (TensorSpec("t", "float32", (None, None, None)),)
    (digest,) = digests(1)
    (value,) = encoded(specs, ([np.empty((0, 1, 1), "<f4")],), [digest])
    wrong = resealed(changed(value, 52, struct.pack("<II", 2**32 - 1, 2**32 - 1)))
    assert EntryFormat(specs).decode_many([wrong], [digest]).reasons == {OVERSIZE: 1}


def test_an_entry_above_the_limit_is_not_written_and_not_read():
    rows = np.zeros((2, 100), dtype="<f4")
    specs = (TensorSpec("t", "float32", (100,)),)
    digs = digests(2)
    small = EntryFormat(specs, max_bytes=400)
    assert small.encode_many(digs, (rows,), created_s=0, cost_us=0) == [None, None]
    decoded = small.decode_many(encoded(specs, (rows,), digs), digs)
    assert decoded.reasons == {OVERSIZE: 2}


def test_a_varying_row_above_the_limit_is_left_out_alone():
    specs = (TensorSpec("t", "uint8", (None,)),)
    rows = [np.zeros(10, "u1"), np.zeros(1_000, "u1"), np.zeros(20, "u1")]
    entries = EntryFormat(specs, max_bytes=200).encode_many(
        digests(3), (rows,), created_s=0, cost_us=0
    )
    assert [entry is None for entry in entries] == [False, True, False]


def test_the_payload_starts_at_a_multiple_of_8_and_the_cost_is_kept_within_its_field():
    specs = (TensorSpec("t", "float32", (3, 5)),)
    entries = EntryFormat(specs).encode_many(
        digests(1), (np.ones((1, 3, 5), "<f4"),), created_s=-5, cost_us=2**40
    )
    assert entries[0] is not None
    assert entries[0].index(np.ones(15, "<f4").tobytes()) % 8 == 0
    assert struct.unpack_from("<II", entries[0], 20) == (0, 2**32 - 1)


def test_rows_of_different_shapes_are_a_usage_error_where_they_must_be_equal():
    rows = [np.zeros(4, "<f4"), np.zeros(3, "<f4")]
    with pytest.raises(UsageError, match="embedding"):
        EntryFormat(EMBEDDING).encode_many(digests(2), (rows,), created_s=0, cost_us=0)


@pytest.mark.parametrize(
    "column",
    [
        np.zeros((1, 4), "<f8"),
        np.zeros((1, 5), "<f4"),
        np.zeros((2, 4), "<f4"),
        np.zeros(4, "<f4"),
        [np.zeros((2, 2), "<f4")],
    ],
    ids=["dtype", "dim", "rows", "rank", "list"],
)
def test_columns_that_are_not_the_stage_s_are_a_usage_error(column):
    with pytest.raises(UsageError, match="embedding"):
        EntryFormat(EMBEDDING).encode_many(digests(1), (column,), created_s=0, cost_us=0)


@pytest.mark.parametrize(
    "specs", [(), (TensorSpec("text", "string"),), (TensorSpec("t", "int8", (2**33,)),)]
)
def test_tensors_that_have_no_entry_are_a_usage_error(specs):
    with pytest.raises(UsageError):
        EntryFormat(specs)


def test_a_column_that_is_not_contiguous_is_stored_as_it_reads():
    rows = np.arange(16, dtype="<f4").reshape(4, 4).T
    digs = digests(4)
    decoded = EntryFormat(EMBEDDING).decode_many(encoded(EMBEDDING, (rows,), digs), digs)
    assert same_bits(np.ascontiguousarray(rows), decoded.columns[0])


def test_decoded_arrays_are_writable_and_contiguous():
    rows = np.zeros((3, 4), dtype="<f4")
    digs = digests(3)
    (column,) = EntryFormat(EMBEDDING).decode_many(encoded(EMBEDDING, (rows,), digs), digs).columns
    assert isinstance(column, np.ndarray)
    assert column.flags.writeable
    assert column.flags.c_contiguous
