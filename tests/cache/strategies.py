"""Random tensors, specs and rows for the tests of the cache."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from kvspark.spec import ITEM_BYTES, Rows, TensorSpec

DTYPES = sorted(ITEM_BYTES)

Columns = tuple[tuple[TensorSpec, ...], tuple[Rows, ...], list[bytes]]
"""Specs, a column for each, and a digest for each row."""


@st.composite
def specs(draw: st.DrawFn, *, varying: bool | None = None) -> TensorSpec:
    dims = st.integers(0, 5) if varying is False else st.none() | st.integers(0, 5)
    shape = draw(st.lists(dims, max_size=3))
    if varying:
        shape.append(None)
    return TensorSpec("t", draw(st.sampled_from(DTYPES)), tuple(shape))


@st.composite
def arrays(draw: st.DrawFn, spec: TensorSpec) -> npt.NDArray[np.generic]:
    """One row of `spec` with any bits, NaN payloads and negative zeros included."""
    shape = tuple(draw(st.integers(0, 5)) if dim is None else dim for dim in spec.shape)
    dtype = spec.numpy_dtype
    size = int(np.prod(shape, dtype=np.int64))
    if spec.dtype == "bool":
        bits = draw(st.lists(st.booleans(), min_size=size, max_size=size))
        return np.array(bits, dtype=dtype).reshape(shape)
    raw = draw(st.binary(min_size=size * dtype.itemsize, max_size=size * dtype.itemsize))
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


@st.composite
def columns(draw: st.DrawFn, *, varying: bool | None = None) -> Columns:
    """One to three tensors of zero to six rows."""
    chosen = tuple(draw(st.lists(specs(varying=varying), min_size=1, max_size=3)))
    count = draw(st.integers(0, 6))
    built: list[Rows] = []
    for spec in chosen:
        rows = [draw(arrays(spec)) for _ in range(count)]
        if spec.is_fixed:
            dims = tuple(dim or 0 for dim in spec.shape)
            built.append(np.stack(rows) if rows else np.empty((0, *dims), spec.numpy_dtype))
        else:
            built.append(rows)
    return chosen, tuple(built), digests(count)


def digests(count: int, *, salt: int = 0) -> list[bytes]:
    """`count` different digests."""
    return [np.random.default_rng((salt, row)).bytes(32) for row in range(count)]


def same_bits(left: Rows, right: Rows) -> bool:
    """True if both hold the same rows bit for bit, with the same dtype and shapes."""
    if len(left) != len(right):
        return False
    return all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(map(np.asarray, left), map(np.asarray, right), strict=True)
    )


def all_same_bits(left: Sequence[Rows], right: Sequence[Rows]) -> bool:
    """True if both hold the same columns bit for bit."""
    return all(same_bits(*pair) for pair in zip(left, right, strict=True))
