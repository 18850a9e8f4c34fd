from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from kvspark.cache.cache import Cache
from kvspark.cache.entry.codec import codec_named
from kvspark.cache.entry.format import EntryFormat
from kvspark.cache.entry.header import FOREIGN, MISPLACED, NOT_SEALED
from kvspark.cache.key.key import namespace_key
from kvspark.cache.seal.aes_gcm import AesSeal
from kvspark.cache.seal.base import NOT_AUTHENTIC, UNKNOWN_KEY
from kvspark.cache.seal.keyring import Keys, write_keys
from kvspark.errors import SecretError
from kvspark.spec import TensorSpec
from tests.cache.entry.test_format import EMBEDDING, MUTATED, changed, mutate
from tests.cache.strategies import Columns, all_same_bits, columns, digests, same_bits

GOLDEN = Path(__file__).parents[1] / "golden"
KEYS = Keys(1, {1: b"\x11" * 32, 2: b"\x22" * 32}, bytes(32))
SPACE = namespace_key("n", b"secret")


def counted(size_bytes: int, counter=itertools.count()) -> bytes:  # noqa: B008 - one for all.
    """Nonces that are never the same and always known."""
    each = [next(counter).to_bytes(12, "little") for _ in range(size_bytes // 12)]
    return b"".join(each)


def sealed(specs, codec="raw", *, keys=KEYS, space=SPACE, identity=b"stage", nonces=counted):
    seal = AesSeal(keys, space, identity, nonces=nonces)
    return EntryFormat(specs, codec_named(codec), seal=lambda: seal)


def encoded(entry_format, cols, digs):
    entries = entry_format.encode_many(digs, cols, created_s=1_700_000_000, cost_us=1_234)
    assert None not in entries
    return entries


def two_embeddings():
    rows = np.arange(8, dtype="<f4").reshape(2, 4)
    digs = digests(2)
    return rows, digs, encoded(sealed(EMBEDDING), (rows,), digs)


@pytest.mark.parametrize("codec", MUTATED)
@given(drawn=columns())
def test_what_is_sealed_is_opened_bit_for_bit(codec: str, drawn: Columns):
    specs, cols, digs = drawn
    decoded = sealed(specs).decode_many(encoded(sealed(specs, codec), cols, digs), digs)
    assert decoded.found.all()
    assert all_same_bits(cols, decoded.columns)


@pytest.mark.parametrize("width", [4, 4_096])
def test_rows_of_any_size_are_opened_and_the_damaged_one_is_a_miss(width):
    specs = (TensorSpec("t", "float32", (width,)),)
    rows = np.random.default_rng(0).standard_normal((5, width)).astype("<f4")
    digs = digests(5)
    values = encoded(sealed(specs), (rows,), digs)
    values[2] = changed(values[2], 70, bytes([values[2][70] ^ 1]))
    decoded = sealed(specs).decode_many([*values, None], [*digs, digs[0]])
    assert decoded.found.tolist() == [True, True, False, True, True, False]
    assert decoded.reasons == {NOT_AUTHENTIC: 1}
    assert same_bits(rows[[0, 1, 3, 4]], decoded.columns[0])
    assert decoded.columns[0].flags.writeable


def test_nothing_of_a_row_can_be_read_in_a_sealed_entry():
    rows, _, values = two_embeddings()
    assert all(row.tobytes()[:8] not in b"".join(values) for row in rows)
    assert EntryFormat(EMBEDDING).decode_many(values, digests(2)).reasons == {FOREIGN: 2}


def test_the_same_row_is_sealed_in_other_bytes_each_time():
    rows = np.zeros((1, 4), dtype="<f4")
    (first,), (second,) = (encoded(sealed(EMBEDDING), (rows,), digests(1)) for _ in range(2))
    assert first[-40:] != second[-40:]


def test_sealed_entries_swapped_between_two_keys_are_misses():
    _, digs, (first, second) = two_embeddings()
    decoded = sealed(EMBEDDING).decode_many([second, first], digs)
    assert decoded.reasons == {MISPLACED: 2}


def test_a_value_that_claims_another_row_s_digest_does_not_open():
    _, digs, (first, second) = two_embeddings()
    forged = changed(second, 28, first[28:44])
    assert sealed(EMBEDDING).decode_many([forged], digs[:1]).reasons == {NOT_AUTHENTIC: 1}


@pytest.mark.parametrize("at", [20, 24], ids=["created", "cost"])
def test_the_header_is_sealed_too(at):
    _, digs, (first, _) = two_embeddings()
    aged = changed(first, at, b"\x01\x02\x03\x04")
    assert sealed(EMBEDDING).decode_many([aged], digs[:1]).reasons == {NOT_AUTHENTIC: 1}


@pytest.mark.parametrize(
    "other",
    [
        {"space": namespace_key("other", b"secret")},
        {"space": namespace_key("n", b"other secret")},
        {"space": namespace_key("n", b"secret", "tenant")},
        {"identity": b"stage2"},
        {"keys": Keys(1, {1: b"\x33" * 32}, bytes(32))},
    ],
    ids=["namespace", "secret", "tenant", "stage", "key"],
)
def test_an_entry_of_another_owner_does_not_open(other):
    _, digs, values = two_embeddings()
    assert sealed(EMBEDDING, **other).decode_many(values, digs).reasons == {NOT_AUTHENTIC: 2}


def test_an_entry_in_clear_is_a_miss_where_entries_are_sealed():
    rows = np.arange(4, dtype="<f4").reshape(1, 4)
    (planted,) = encoded(EntryFormat(EMBEDDING), (rows,), digests(1))
    for value in (planted, planted + bytes(20)):
        reasons = sealed(EMBEDDING).decode_many([value], digests(1)).reasons
        assert reasons == {NOT_SEALED: 1}


def test_every_active_key_opens_and_a_retired_one_is_a_miss():
    rows, digs, values = two_embeddings()
    rotated = sealed(EMBEDDING, keys=Keys(2, KEYS.masters, bytes(32)))
    assert same_bits(rows, rotated.decode_many(values, digs).columns[0])
    assert encoded(rotated, (rows,), digs)[0][8:10] == b"\x02\x00"
    retired = sealed(EMBEDDING, keys=Keys(2, {2: b"\x22" * 32}, bytes(32)))
    assert retired.decode_many(values, digs).reasons == {UNKNOWN_KEY: 2}


def test_the_bytes_of_a_sealed_entry_are_the_committed_ones():
    specs = (TensorSpec("embedding", "float32", (3,)), TensorSpec("label", "int64", ()))
    cols = (np.array([[0.5, -0.0, np.inf]], dtype="<f4"), np.array([-2], dtype="<i8"))
    golden = bytes.fromhex((GOLDEN / "entry_sealed_v2.hex").read_text())
    entry_format = sealed(specs, nonces=lambda size: bytes(range(size)))
    assert encoded(entry_format, cols, [bytes(range(32))]) == [golden]
    decoded = sealed(specs).decode_many([golden], [bytes(range(32))])
    assert all_same_bits(cols, decoded.columns)


@pytest.mark.slow
@pytest.mark.parametrize("width", [4, 2_048])
def test_100_000_mutated_entries_are_misses_and_take_no_memory(width):
    specs = (TensorSpec("embedding", "float32", (width,)),)
    rows, digs = np.ones((1, width), dtype="<f4"), digests(1)
    entry_format = sealed(specs)
    (value,) = encoded(entry_format, (rows,), digs)
    random = np.random.default_rng(20_240_607)
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(1_000):
            mutated = [each for each in (mutate(random, value) for _ in range(50)) if each != value]
            decoded = entry_format.decode_many(mutated, digs * len(mutated))
            assert not decoded.found.any()
            assert sum(decoded.reasons.values()) == len(mutated)
            refused += len(mutated)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert refused > 49_000


def test_a_cache_seals_where_others_reach_the_store_and_refuses_without_keys(monkeypatch):
    monkeypatch.delenv("KVSPARK_SEALING_KEYS")
    with pytest.raises(SecretError, match=r"keygen.*sealed=False") as caught:
        Cache.connect("redis://127.0.0.1:1", namespace="n")
    assert "\n" not in str(caught.value)
    assert not Cache.connect("redis://127.0.0.1:1", namespace="n", sealed=False).config.is_sealed
    assert not Cache.connect("memory://", namespace="n").config.is_sealed


def test_a_key_file_is_rotated_under_a_running_cache(tmp_path):
    path = tmp_path / "keys"
    write_keys(path)
    cache = Cache.connect("memory://rotated", namespace="n", sealed=True, key_file=str(path))
    space = cache.keyspace(b"stage", EMBEDDING)
    digs = space.digests([b"a", b"b"])
    rows = np.arange(8, dtype="<f4").reshape(2, 4)
    space.insert(digs[:1], (rows[:1],), cost_us=1)
    write_keys(path, is_primary=True)
    assert space.lookup(digs).found.tolist() == [True, False]
    space.insert(digs[1:], (rows[1:],), cost_us=1)
    assert same_bits(rows, space.lookup(digs).columns[0])
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("1:")))
    assert space.lookup(digs).found.tolist() == [False, True]
    assert cache.drain().errors == {UNKNOWN_KEY: 1}


def test_equal_rows_of_two_tenants_never_meet(tmp_path):
    path = tmp_path / "keys"
    write_keys(path)
    rows = np.arange(4, dtype="<f4").reshape(1, 4)
    found = []
    for tenant in ("a", "b", None):
        cache = Cache.connect(
            "memory://tenants", namespace="n", tenant=tenant, sealed=True, key_file=str(path)
        )
        space = cache.keyspace(b"stage", EMBEDDING)
        digs = space.digests([b"row"])
        found.append(bool(space.lookup(digs).found[0]))
        space.insert(digs, (rows,), cost_us=1)
        assert space.lookup(digs).found[0]
    assert found == [False, False, False]
