"""The ground floor: errors, canonical bytes and digests, plain values, counts that add up."""

from __future__ import annotations

import math
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark import errors
from kvspark.errors import FingerprintError, KvsparkError, UsageError
from kvspark.fingerprint import Canonical, canonical_bytes, digest
from kvspark.spec import ITEM_BYTES, STRING, MicroBatch, TensorSpec
from kvspark.stats import NOTHING, RunStats, StageStats

ERRORS = sorted(
    (kind for kind in vars(errors).values() if isinstance(kind, type)),
    key=lambda kind: kind.__name__,
)
OURS = [kind for kind in ERRORS if issubclass(kind, KvsparkError)]

# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: str(kind.__name__))
def test_an_error_survives_pickle(kind: type[KvsparkError]) -> None:
    error = kind("column 'x' is missing")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(copy) == str(error)


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: str(kind.__name__))
def test_an_error_has_a_code_of_sysexits_and_one_of_its_own(kind: type[KvsparkError]) -> None:
    assert kind.exit_code in {64, 65, 69, 70, 73, 75, 77}
    assert kind.code.startswith("KVS-")
    assert [other for other in OURS if other.code == kind.code] == [kind]


def test_an_error_is_one_line_whatever_its_text() -> None:
    assert errors.DataError("a\n  b\tc").line() == "KVS-1100 a b c"


def test_the_tree_in_the_docstring_names_every_error() -> None:
    told = {word.split("(")[0] for word in (errors.__doc__ or "").split()}
    assert {kind.__name__ for kind in OURS} <= told


# ---------------------------------------------------------------- fingerprint

# Written down by hand once. They never change without FORMAT_VERSION: every entry of every store
# and every bundle is named by them.
GOLDEN_BYTES: list[tuple[str, Canonical, str]] = [
    ("none", None, "4e0000000000000000"),
    ("true", True, "540000000000000000"),
    ("false", False, "460000000000000000"),
    ("zero", 0, "49010000000000000030"),
    ("negative", -1, "4902000000000000002d31"),
    (
        "beyond_64_bits",
        2**70,
        "49160000000000000031313830353931363230373137343131333033343234",
    ),
    ("float", 1.5, "440800000000000000000000000000f83f"),
    ("minus_zero", -0.0, "4408000000000000000000000000000080"),
    ("text", "é", "530200000000000000c3a9"),
    ("lone_surrogate", "\ud800", "530300000000000000eda080"),
    ("bytes", b"\x00a", "4202000000000000000061"),
    ("list", ["a", "b"], "4c14000000000000005301000000000000006153010000000000000062"),
    (
        "mapping",
        {"b": 1, "a": None},
        "4d2700000000000000530100000000000000614e00000000000000005301000000000000006249010000000000000031",
    ),
]

STAGE: Canonical = {
    "name": "trunk",
    "weights": [b"\x00\x01", "float32", [2, 3]],
    "upstream": [],
}
GOLDEN_DIGESTS = {
    "stage": "f43a354c833f1ae64666160f9e218e3b2af03dc16a89409c29a49516a22eca36",
    "other": "faa2ed21e9aacc5d6dcc45118d324a34e1a7587dc31e6a481d3f954b43efdec6",
}


@pytest.mark.parametrize(
    ("value", "expected"), [row[1:] for row in GOLDEN_BYTES], ids=[row[0] for row in GOLDEN_BYTES]
)
def test_canonical_bytes_are_the_golden_ones(value: Canonical, expected: str) -> None:
    assert canonical_bytes(value).hex() == expected


@pytest.mark.parametrize("kind", sorted(GOLDEN_DIGESTS))
def test_a_digest_is_the_golden_one(kind: str) -> None:
    assert digest(kind, STAGE).hex() == GOLDEN_DIGESTS[kind]


@pytest.mark.parametrize("seed", ["0", "1", "random"])
def test_a_digest_is_equal_in_a_process_of_another_hash_seed(seed: str) -> None:
    program = (
        "from kvspark.fingerprint import digest\n"
        "words = {'trunk', 'head', 'features', 'a', 'b'}\n"
        "value = {word: [b'x', 1.5, {'q': None}] for word in words}\n"
        "print(digest('stage', value).hex())\n"
    )
    item: Canonical = [b"x", 1.5, {"q": None}]
    words = ["a", "b", "features", "head", "trunk"]
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": seed},
        check=True,
        capture_output=True,
        text=True,
    )
    assert printed.stdout.strip() == digest("stage", dict.fromkeys(words, item)).hex()


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=12,
)


@given(VALUES)
def test_canonical_bytes_say_what_the_value_was(value: Any) -> None:
    """Bytes that can be read back are injective: no two values share them."""
    decoded, rest = _decode(canonical_bytes(value))
    assert rest == b""
    assert _typed(decoded) == _typed(value)


@given(st.dictionaries(st.text(max_size=3), st.integers(), min_size=2))
def test_canonical_bytes_do_not_depend_on_the_order_of_keys(value: dict[str, int]) -> None:
    backwards = dict(reversed(list(value.items())))
    assert canonical_bytes(value) == canonical_bytes(backwards)


def test_canonically_equivalent_texts_have_other_bytes() -> None:
    assert canonical_bytes("\u00e9") != canonical_bytes("e\u0301")


@pytest.mark.parametrize(
    "value",
    [object(), {1: "a"}, {"a": {1, 2}}, [range(2)], print],
    ids=lambda value: repr(value)[:12],
)
def test_a_value_without_canonical_bytes_is_refused(value: Any) -> None:
    with pytest.raises(FingerprintError, match=r"canonical bytes|must be text"):
        canonical_bytes(value)


def _decode(data: bytes) -> tuple[Any, bytes]:
    tag, size = data[:1], int.from_bytes(data[1:9], "little")
    content, rest = data[9 : 9 + size], data[9 + size :]
    assert len(content) == size
    if tag in b"LM":
        items = []
        while content:
            item, content = _decode(content)
            items.append(item)
        return (items if tag == b"L" else dict(zip(items[::2], items[1::2], strict=True))), rest
    readers: dict[bytes, Callable[[bytes], Any]] = {
        b"N": lambda _: None,
        b"T": lambda _: True,
        b"F": lambda _: False,
        b"I": int,
        b"D": lambda bits: struct.unpack("<d", bits)[0],
        b"S": lambda text: text.decode("utf-8", "surrogatepass"),
        b"B": bytes,
    }
    return readers[tag](content), rest


def _typed(value: Any) -> Any:
    """The value with its types, so that 1, 1.0 and True differ and NaN equals itself."""
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if isinstance(value, dict):
        return {key: _typed(item) for key, item in value.items()}
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    return (type(value).__name__, value)


# ---------------------------------------------------------------- spec


def test_a_fixed_tensor_knows_its_bytes() -> None:
    assert TensorSpec("x", "float32", (2, 3)).bytes_per_row == 24
    assert TensorSpec("x", "bfloat16", ()).bytes_per_row == 2


def test_a_varying_tensor_has_no_bytes_per_row() -> None:
    assert TensorSpec("x", "int64", (None, 3)).bytes_per_row is None
    assert TensorSpec("x", STRING).bytes_per_row is None


@pytest.mark.parametrize("dtype", sorted(ITEM_BYTES))
def test_every_dtype_has_a_little_endian_numpy_dtype_of_its_size(dtype: str) -> None:
    carried = TensorSpec("x", dtype).numpy_dtype
    assert carried.itemsize == ITEM_BYTES[dtype]
    assert carried.newbyteorder("<") == carried


@given(st.integers(0, 5000), st.sampled_from([1, 32, 64, 96, 256]), st.integers(1, 8192))
def test_a_bucket_holds_its_rows_and_a_call_holds_its_limits(
    length: int, rows: int, tokens: int
) -> None:
    shapes = MicroBatch(rows=rows, tokens=tokens)
    bucket = shapes.bucket(length)
    at_once = shapes.rows_at(bucket)
    assert length <= bucket <= max(4, math.ceil(length * 1.25) + 3)
    assert shapes.bucket(bucket) == bucket
    assert at_once in (1, rows)
    assert at_once == 1 or at_once * bucket <= tokens


@pytest.mark.parametrize("rows", [0, -32, 2, 8, 16, 33])
def test_a_micro_batch_whose_rows_leave_a_remainder_is_refused(rows: int) -> None:
    with pytest.raises(UsageError, match=r"must be 1 or a multiple of 32, got"):
        MicroBatch(rows=rows)


def test_each_thread_has_32_rows() -> None:
    wide = MicroBatch(rows=128)
    assert [wide.threads(most) for most in (1, 2, 3, 4, 16)] == [1, 2, 2, 4, 4]
    assert MicroBatch(rows=96).threads(8) == 1
    assert MicroBatch().threads(8) == 1


@given(st.integers(0, 5000))
def test_a_longer_row_never_has_a_smaller_bucket(length: int) -> None:
    assert MicroBatch().bucket(length) <= MicroBatch().bucket(length + 1)


# ---------------------------------------------------------------- stats

COUNTS = st.integers(0, 2**40)
# Whole seconds: floating-point addition itself is only nearly associative.
STAGES = st.builds(
    StageStats,
    rows=COUNTS,
    lookups=COUNTS,
    hits=COUNTS,
    computed=COUNTS,
    bytes_read=COUNTS,
    seconds_compute=st.integers(0, 10**6).map(float),
)
RUNS = st.builds(
    RunStats,
    rows=COUNTS,
    stages=st.dictionaries(st.sampled_from(["features", "trunk", "head"]), STAGES),
    cache_errors=st.dictionaries(st.sampled_from(["timeout", "full"]), COUNTS),
    degraded=st.frozensets(st.sampled_from(["unavailable", "full"])),
)


@given(RUNS, RUNS, RUNS)
def test_adding_stats_is_associative(a: RunStats, b: RunStats, c: RunStats) -> None:
    assert (a + b) + c == a + (b + c)


@given(RUNS, RUNS)
def test_adding_stats_is_commutative(a: RunStats, b: RunStats) -> None:
    assert a + b == b + a


@given(RUNS)
def test_nothing_is_neutral(stats: RunStats) -> None:
    assert stats + NOTHING == stats == NOTHING + stats


@given(RUNS)
def test_stats_survive_json_and_pickle(stats: RunStats) -> None:
    assert RunStats.from_json(stats.to_json()) == stats
    assert pickle.loads(pickle.dumps(stats)) == stats


def test_a_report_of_an_older_version_is_read_without_the_counts_that_are_no_longer_kept():
    told = RunStats(1, {"head": StageStats(rows=1)}).to_json()
    told["stages"]["head"]["skipped"] = 7
    assert RunStats.from_json(told) == RunStats(1, {"head": StageStats(rows=1)})
