from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.key.key import KEY_BYTES, RowDigests, StageKeys, namespace_key
from kvspark.fingerprint import DIGEST_BYTES

GOLDEN = Path(__file__).parents[1] / "golden"

GOLDEN_KEY = """
from kvspark.cache.key.key import RowDigests, StageKeys, namespace_key
space = namespace_key("golden", b"a secret")
(digest,) = RowDigests(space, b"a stage").of([b"a row"])
(key,) = StageKeys(space, b"a stage").of([digest])
print(digest.hex(), key.hex())
"""


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_keys_are_the_committed_ones_in_every_process(seed):
    environ = {**os.environ, "PYTHONHASHSEED": seed}
    command = [sys.executable, "-c", GOLDEN_KEY]
    found = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    assert found.stdout == (GOLDEN / "key_v1.hex").read_text()


def test_a_key_has_27_bytes_and_a_digest_32():
    space = namespace_key("n", None)
    digests = RowDigests(space, b"stage").of([b"", b"a", b"b" * 10_000])
    assert {len(digest) for digest in digests} == {DIGEST_BYTES}
    assert {len(key) for key in StageKeys(space, b"stage").of(digests)} == {KEY_BYTES}


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_equal_rows_have_equal_digests_and_others_have_others(rows):
    digests = RowDigests(namespace_key("n", None), b"stage").of(rows)
    assert len(set(digests)) == len(set(rows))
    assert digests == RowDigests(namespace_key("n", None), b"stage").of(rows)


@pytest.mark.parametrize(
    ("namespace", "secret", "identity"),
    [
        ("other", None, b"stage"),
        ("n", b"secret", b"stage"),
        ("n", b"", b"stage"),
        ("n", None, b"stage2"),
        ("n", None, b""),
    ],
)
def test_another_namespace_secret_or_stage_gives_other_digests_and_keys(
    namespace, secret, identity
):
    usual, other = namespace_key("n", None), namespace_key(namespace, secret)
    left = RowDigests(usual, b"stage").of([b"row"])
    right = RowDigests(other, identity).of([b"row"])
    assert left != right
    assert StageKeys(usual, b"stage").of(left) != StageKeys(other, identity).of(right)


def test_an_identity_does_not_run_into_the_row():
    space = namespace_key("n", None)
    assert RowDigests(space, b"ab").of([b"c"]) != RowDigests(space, b"a").of([b"bc"])


def test_all_keys_of_a_stage_begin_with_its_prefix_and_of_a_namespace_with_two_bytes_less():
    space = namespace_key("n", None)
    trunk, head = StageKeys(space, b"trunk"), StageKeys(space, b"head")
    digests = RowDigests(space, b"trunk").of([b"a", b"b", b"c"])
    assert all(key.startswith(trunk.prefix) for key in trunk.of(digests))
    assert trunk.prefix != head.prefix
    assert trunk.prefix[:5] == head.prefix[:5]


def test_the_hash_tag_is_a_function_of_the_digest_and_spreads():
    digests = RowDigests(namespace_key("n", None), b"s").of([b"%d" % i for i in range(4_000)])
    keys = StageKeys(namespace_key("n", None), b"s").of(digests)
    assert all(key[7:11] == b"{%02x}" % (key[11] >> 2) for key in keys)
    assert len({key[7:11] for key in keys}) == 64
