"""Plain values that describe rows: what a tensor looks like, and in which shapes it is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.generic] | list[npt.NDArray[np.generic]]
"""The values of one tensor for n rows: an array (n, *shape), or a list of n arrays where a dimension varies."""

STRING = "string"
"""The dtype of a text input."""

BINARY = "binary"
"""The dtype of an input of bytes: the content of an image or a sound file, say."""

ITEM_BYTES = {
    "float32": 4,
    "float64": 8,
    "float16": 2,
    "bfloat16": 2,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "uint8": 1,
    "bool": 1,
}
"""Bytes of one item, by dtype. numpy has no bfloat16: it is carried as the uint16 of its bits."""


@final
@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of a row."""

    name: str
    dtype: str
    """A key of `ITEM_BYTES`, `STRING` for text, or `BINARY` for bytes."""
    shape: tuple[int | None, ...] = ()
    """The shape of one row, without the batch dimension; None where it varies from row to row."""

    @property
    def is_fixed(self) -> bool:
        """True if every row has the same number of bytes."""
        return self.dtype not in (STRING, BINARY) and None not in self.shape

    @property
    def bytes_per_row(self) -> int | None:
        """Bytes of one row; None where they vary."""
        if not self.is_fixed:
            return None
        size_bytes = ITEM_BYTES[self.dtype]
        for dim in self.shape:
            size_bytes *= dim or 0
        return size_bytes

    @property
    def numpy_dtype(self) -> np.dtype[np.generic]:
        """The little-endian dtype that carries this tensor outside torch."""
        name = "uint16" if self.dtype == "bfloat16" else self.dtype
        dtype: np.dtype[np.generic] = np.dtype(name).newbyteorder("<")
        return dtype


@final
@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The shapes in which a model is called: part of every fingerprint.

    torch may give one row other bits at another batch shape, and gives the same bits at the same
    shape whatever the other rows are. So a row's shape follows from its own length alone.
    """

    rows: int = 32
    """Rows of one call of the model, and the most that a call with lengths has."""
    tokens: int = 512
    """The most padded tokens of a call with lengths; 512 keeps a CPU core busy at any length."""

    def bucket(self, length: int) -> int:
        """The padded length of a row of `length` tokens.

        Steps of 4 up to 32 tokens, then of an eighth of the length's power of two: on 10,000
        glosses of WordNet 6 % of the tokens are padding, against 16 % with steps of 8.
        """
        step = max(4, (1 << max(length - 1, 0).bit_length()) // 16)
        return max(step, -(-length // step) * step)

    def rows_at(self, bucket: int) -> int:
        """The rows of one call at padded length `bucket`: a power of two within both limits."""
        fit = max(1, self.tokens // bucket)
        return min(self.rows, 1 << (fit.bit_length() - 1))
