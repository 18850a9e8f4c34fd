from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.entry.codec import codec_named
from kvspark.cache.entry.format import EntryFormat
from kvspark.cache.entry.header import MISPLACED
from kvspark.cache.entry.reader import Decoding
from kvspark.cache.seal.base import NOT_AUTHENTIC
from kvspark.cache.seal.keyring import Keys
from kvspark.spec import TensorSpec
from kvspark.store.value_table import Part, Scattered, Slab
from tests.cache.entry.test_format import EMBEDDING, changed
from tests.cache.seal.test_base import KEYS, sealed
from tests.cache.strategies import digests, same_bits

ROWS = 12
FORMATS: dict[str, Callable[..., EntryFormat]] = {"sealed": sealed, "in clear": EntryFormat}


def entries_of(entry_format: EntryFormat, width: int) -> tuple[np.ndarray, list[bytes]]:
    rows = np.arange(ROWS * width, dtype="<f4").reshape(ROWS, width)
    entries = entry_format.encode_many(digests(ROWS), (rows,), created_s=1, cost_us=7)
    whole = [entry for entry in entries if entry is not None]
    assert len(whole) == ROWS
    return rows, whole


def slab_of(values: list[bytes]) -> Slab:
    """As they come: with something between them."""
    table = np.frombuffer(b"".join([b"\r\n$" + value for value in values]), dtype=np.uint8)
    return Slab(table.reshape(len(values), -1)[:, 3:])


def in_parts(values: list[bytes | None], stops: list[int], owners: list[int]) -> list[Part]:
    """Cut at `stops`, and scattered among `owners` where there are any.

    A part whose values are all there and of one size comes as a slab.
    """
    parts: list[Part] = []
    for start, stop in zip([0, *stops], [*stops, len(values)], strict=True):
        rest = [*range(start, stop)]
        for owner in {owners[row] for row in rest} if owners else ():
            rows = [row for row in rest if owners[row] == owner]
            rows.sort(key=lambda row: row * 5 % ROWS)  # as hash tags order them: anyhow
            slab = even([values[row] for row in rows])
            if slab is not None:
                parts.append(Scattered(slab, np.array(rows)))
                rest = [row for row in rest if row not in rows]
        some = [values[row] for row in rest]
        parts.append(even(some) or some)
    return parts


def even(values: list[bytes | None]) -> Slab | None:
    whole = [value for value in values if value]
    is_even = len(whole) == len(values) and len(set(map(len, whole))) == 1
    return slab_of(whole) if is_even else None


@pytest.mark.parametrize("width", [0, 4, 4_096])
@pytest.mark.parametrize("how", FORMATS)
@given(
    picked=st.lists(
        st.sampled_from(["right", "missing", "damaged", "odd", "zstd"]),
        min_size=ROWS,
        max_size=ROWS,
    )
    | st.just(["right"] * ROWS)
    | st.just(["zstd"] * ROWS),
    stops=st.lists(st.integers(0, ROWS), max_size=4).map(sorted),
    owners=st.just([]) | st.lists(st.integers(0, 2), min_size=ROWS, max_size=ROWS),
    data=st.data(),
)
def test_rows_that_come_in_parts_are_those_that_come_as_a_list(
    how, width, picked, stops, owners, data
):
    specs = (TensorSpec("t", "float32", (width,)),)
    entry_format = FORMATS[how](specs)
    rows, entries = entries_of(entry_format, width)
    compressed = EntryFormat(specs, codec_named("zstd"), seal=entry_format.seal)
    _, small = entries_of(compressed, width)
    values: list[bytes | None] = []
    for kind, entry, other in zip(picked, entries, small, strict=True):
        at = data.draw(st.integers(0, len(entry) - 1)) if kind == "damaged" else 0
        damaged = changed(entry, at, bytes([entry[at] ^ 1]))
        values.append(
            {"right": entry, "missing": None, "damaged": damaged, "odd": b"o", "zstd": other}[kind]
        )
    decoding = Decoding(entry_format, digests(ROWS))
    decoded = decoding.of(in_parts(values, stops, owners))
    expected = [kind in ("right", "zstd") for kind in picked]
    assert decoded.found.tolist() == expected
    (column,) = decoded.columns
    assert isinstance(column, np.ndarray)
    assert same_bits(rows[np.array(expected)], column)
    assert column.flags.writeable
    assert sum(decoded.reasons.values()) == picked.count("damaged") + picked.count("odd")
    assert decoding.present == ROWS - picked.count("missing")
    assert decoding.size_bytes == sum(len(value) for value in values if value)
    assert decoding.saved_us() == 7 * sum(expected)


@pytest.mark.parametrize("how", FORMATS)
def test_entries_that_are_swapped_in_a_slab_are_misses(how):
    entry_format = FORMATS[how](EMBEDDING)
    rows, entries = entries_of(entry_format, 4)
    decoding = Decoding(entry_format, digests(ROWS))
    decoded = decoding.of([slab_of([entries[1], entries[0], *entries[2:]])])
    assert decoded.found.tolist() == [False, False, *[True] * (ROWS - 2)]
    assert same_bits(rows[2:], decoded.columns[0])
    assert decoded.reasons == {MISPLACED: 2}


def test_a_slab_of_entries_under_two_keys_is_opened_and_of_another_owner_is_not():
    rows, old = entries_of(sealed(EMBEDDING), 4)
    rotated = sealed(EMBEDDING, keys=Keys(2, KEYS.masters, bytes(32)))
    _, new = entries_of(rotated, 4)
    decoding = Decoding(rotated, digests(ROWS))
    decoded = decoding.of([slab_of([*old[:5], *new[5:]])])
    assert same_bits(rows, decoded.columns[0])
    other = Decoding(sealed(EMBEDDING, identity=b"stage2"), digests(ROWS))
    assert other.of([slab_of(old)]).reasons == {NOT_AUTHENTIC: ROWS}


def test_rows_that_vary_in_size_may_come_in_slabs():
    entry_format = EntryFormat((TensorSpec("t", "float32", (None,)),))
    column = [np.arange(3, dtype="<f4") + row for row in range(ROWS)]
    entries = entry_format.encode_many(digests(ROWS), (column,), created_s=1, cost_us=7)
    decoding = Decoding(entry_format, digests(ROWS))
    scattered = np.array([7, 5])
    parts: list[Part] = [
        slab_of([entry for entry in entries[:5] if entry]),
        Scattered(slab_of([entries[row] or b"" for row in scattered]), scattered),
        [entries[6], *entries[8:]],
    ]
    decoded = decoding.of(parts)
    assert decoded.found.all()
    assert all(map(same_bits, column, decoded.columns[0]))
    assert decoding.saved_us() == 7 * ROWS
