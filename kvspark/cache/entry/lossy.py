"""Fewer bits for a tensor's numbers: what is stored, and what is computed with ever after.

    bf16    the upper half of a float32, rounded to nearest even; 2 bytes
    fp16    a half float, rounded to nearest even; 2 bytes
    int8    a whole number from -127 to 127 times a scale, the largest number of its vector / 127; 1 byte,
            and 4 for each vector, which is the last dimension

A pair of functions on arrays, each of which is exact arithmetic with one rounding, so that all machines
agree. `widen(narrow(x))` is what a run goes on with, whether it has just computed x or read it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from kvspark.spec import TensorSpec

Array = npt.NDArray[Any]

_FLOATS = frozenset({"float32", "float64"})
_INT8_MOST = 127


class LossyCodec(ABC):
    """How the floating-point tensors of a stage are stored in fewer bits."""

    name: str

    @abstractmethod
    def specs(self, spec: TensorSpec) -> tuple[TensorSpec, ...]:
        """The tensors that are stored of one like `spec`, which it narrows."""

    @abstractmethod
    def narrow(self, values: Array) -> tuple[Array, ...]:
        """What is stored of `values`, float32 or float64 with at least one dimension."""

    @abstractmethod
    def widen(self, parts: tuple[Array, ...]) -> Array:
        """The values, as float32, that were narrowed to `parts`."""

    def narrows(self, spec: TensorSpec) -> bool:
        """True if it changes a tensor like `spec`: floats of full width, in vectors."""
        return spec.dtype in _FLOATS and len(spec.shape) > 0


@final
class Bf16(LossyCodec):
    """The upper half of a float32."""

    name = "bf16"

    @override
    def specs(self, spec: TensorSpec) -> tuple[TensorSpec, ...]:
        return (TensorSpec(spec.name, "bfloat16", spec.shape),)

    @override
    def narrow(self, values: Array) -> tuple[Array, ...]:
        bits = _float32(values).view("<u4")
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        # Rounding would carry a NaN whose upper half is all ones into a zero.
        return (np.where(np.isnan(values), (bits >> 16) | 0x40, rounded).astype("<u2"),)

    @override
    def widen(self, parts: tuple[Array, ...]) -> Array:
        return (parts[0].astype("<u4") << 16).view("<f4")


@final
class Fp16(LossyCodec):
    """A half float."""

    name = "fp16"

    @override
    def specs(self, spec: TensorSpec) -> tuple[TensorSpec, ...]:
        return (TensorSpec(spec.name, "float16", spec.shape),)

    @override
    def narrow(self, values: Array) -> tuple[Array, ...]:
        with np.errstate(over="ignore"):
            return (_float32(values).astype("<f2"),)

    @override
    def widen(self, parts: tuple[Array, ...]) -> Array:
        return parts[0].astype("<f4")


@final
class Int8(LossyCodec):
    """A whole number times the scale of its vector."""

    name = "int8"

    @override
    def specs(self, spec: TensorSpec) -> tuple[TensorSpec, ...]:
        scale = TensorSpec(f"{spec.name}.scale", "float32", spec.shape[:-1])
        return TensorSpec(spec.name, "int8", spec.shape), scale

    @override
    def narrow(self, values: Array) -> tuple[Array, ...]:
        exact = _float32(values)
        scale = np.abs(exact).max(axis=-1, initial=0) / np.float32(_INT8_MOST)
        # A vector of zeros has no scale, nor has one of numbers so small that it is below all floats.
        divisor = np.where(scale == 0, np.float32(np.inf), scale)[..., None]
        with np.errstate(invalid="ignore", over="ignore"):
            whole = np.clip(np.rint(exact / divisor), -_INT8_MOST, _INT8_MOST).astype("i1")
        return whole, scale.astype("<f4")

    @override
    def widen(self, parts: tuple[Array, ...]) -> Array:
        whole, scale = parts
        with np.errstate(invalid="ignore", over="ignore"):
            return whole.astype("<f4") * scale[..., None]


_CODECS = (Bf16(), Fp16(), Int8())
_BY_NAME = {codec.name: codec for codec in _CODECS}
LOSSY_NAMES = tuple(_BY_NAME)


def lossy_named(name: str) -> LossyCodec | None:
    """The lossy codec that is called `name`; None for any other name."""
    return _BY_NAME.get(name)


def holds(exact: Array, widened: Array) -> Array:
    """For each number of `exact`, whether it is as finite in `widened`: what is too large is not."""
    is_as_finite: Array = np.isfinite(exact) == np.isfinite(widened)
    return is_as_finite


def _float32(values: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype="<f4")
