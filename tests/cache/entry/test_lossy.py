"""Lossy codecs: what one rounding leaves, the same for a row wherever it is, and what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from kvspark.cache.entry.codec import CODEC_NAMES
from kvspark.cache.entry.lossy import LOSSY_NAMES, LossyCodec, holds, lossy_named
from kvspark.config.plan import ROUNDING_CODECS
from kvspark.spec import TensorSpec

FLOATS = st.floats(width=32)
TABLES = npst.arrays(np.float32, npst.array_shapes(min_dims=2, max_dims=3), elements=FLOATS)
NUMBERS = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=2, max_dims=3),
    elements=st.floats(-1e4, 1e4, width=32),
)


def named(name: str) -> LossyCodec:
    codec = lossy_named(name)
    assert codec is not None
    return codec


def bits(array) -> bytes:
    return np.ascontiguousarray(array).tobytes()


@pytest.mark.parametrize("name", LOSSY_NAMES)
@given(TABLES)
def test_a_row_alone_is_rounded_as_it_is_among_others(name, rows):
    codec = named(name)
    parts = codec.narrow(rows)
    widened = codec.widen(parts)
    for place, row in enumerate(rows):
        alone = codec.narrow(row[None])
        assert [bits(part[0]) for part in alone] == [bits(part[place]) for part in parts]
        assert bits(codec.widen(alone)[0]) == bits(widened[place])


@pytest.mark.parametrize("name", LOSSY_NAMES)
@given(TABLES)
def test_parts_are_what_the_specs_say_and_one_number_after_another(name, rows):
    codec = named(name)
    specs = codec.specs(TensorSpec("x", "float32", rows.shape[1:]))
    parts = codec.narrow(rows)
    for spec, part in zip(specs, parts, strict=True):
        assert part.dtype == spec.numpy_dtype
        assert part.shape == (len(rows), *spec.shape)
    assert codec.widen(parts).dtype == np.dtype("<f4")


@given(TABLES)
@example(np.array([[np.nan, -np.nan, np.inf, -np.inf, -0.0, 3.4e38, 1e-45]], dtype=np.float32))
@example(np.array([[0xFFFFFFFF, 0x7FFFFFFF, 0xFFFF8000]], dtype=np.uint32).view(np.float32))
def test_bf16_and_fp16_are_torch_s_own(rows):
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        codec = named(name)
        expected = torch.from_numpy(rows.copy()).to(dtype).to(torch.float32).numpy()
        np.testing.assert_array_equal(codec.widen(codec.narrow(rows)), expected)


@given(NUMBERS)
def test_int8_is_right_to_half_a_step_of_the_vector_s_largest_number(rows):
    codec = named("int8")
    step = np.abs(rows).max(axis=-1, keepdims=True) / 127
    apart = np.abs(codec.widen(codec.narrow(rows)) - rows)
    assert (apart <= step * 0.501 + 1e-40).all()


@pytest.mark.parametrize("name", LOSSY_NAMES)
@given(TABLES)
def test_what_is_as_finite_as_before_holds_and_nothing_else(name, rows):
    codec = named(name)
    widened = codec.widen(codec.narrow(rows))
    held = holds(rows, widened)
    assert (np.isfinite(widened[held & np.isfinite(rows)])).all()
    assert not np.isfinite(widened[held & ~np.isfinite(rows)]).any()


def test_a_half_float_cannot_hold_what_is_too_large_nor_int8_what_is_infinite():
    rows = np.array([[1.0, 7e4], [1.0, np.inf]], dtype=np.float32)
    half, whole = named("fp16"), named("int8")
    assert not holds(rows[0], half.widen(half.narrow(rows))[0]).all()
    assert holds(rows[1], half.widen(half.narrow(rows))[1]).all()
    assert not holds(rows[1], whole.widen(whole.narrow(rows))[1]).all()


def test_only_vectors_of_full_floats_are_narrowed():
    codec = named("int8")
    assert codec.narrows(TensorSpec("x", "float64", (None, 4)))
    for dtype, shape in (("float32", ()), ("int64", (4,)), ("bfloat16", (4,)), ("string", ())):
        assert not codec.narrows(TensorSpec("x", dtype, shape))


def test_names_are_those_that_the_conf_knows_and_no_other_codec_s():
    assert set(LOSSY_NAMES) == ROUNDING_CODECS
    assert not set(LOSSY_NAMES) & set(CODEC_NAMES)
    assert lossy_named("zstd") is None
