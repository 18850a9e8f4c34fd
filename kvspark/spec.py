"""Plain values that describe rows: what a tensor looks like, and in which shapes it is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.errors import UsageError

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


ROWS_UNIT = 32
"""Rows of a call come in multiples of this. torch computes sigmoid, GELU and their like two vectors at
a time and what is left over one by one, with other last bits: a row at the end of a call of 8 had
other bits than at its start. 32 rows leave nothing over, with AVX-512 too (2 x 16 floats)."""


@final
@dataclass(frozen=True, slots=True)
class MicroBatch:
    """The shapes in which a model is called: part of every fingerprint.

    torch may give one row other bits at another batch shape, and gives the same bits at the same
    shape, wherever the row stands and whatever the other rows are. So a row's shape follows from
    its own length alone.

    Raises:
        UsageError: `rows` is neither 1 nor a multiple of `ROWS_UNIT`, or `tokens` is not positive.
    """

    rows: int = ROWS_UNIT
    """Rows of one call of the model: 1, or a multiple of `ROWS_UNIT`; 32 for each thread."""
    tokens: int = 2048
    """The most padded tokens of a call with lengths; where `rows` rows would have more, a row is
    computed alone. On a CPU core rows of 64 tokens and less gain from company, longer ones hardly."""

    def __post_init__(self) -> None:
        if self.rows < 1 or (self.rows > 1 and self.rows % ROWS_UNIT):
            raise UsageError(
                f"micro_batch.rows must be 1 or a multiple of {ROWS_UNIT}, got {self.rows}: with others a "
                "row's last bits depend on its place among the rows"
            )
        if self.tokens < 1:
            raise UsageError(f"micro_batch.tokens must be at least 1, got {self.tokens}")

    def bucket(self, length: int) -> int:
        """The padded length of a row of `length` tokens.

        Steps of 4 up to 32 tokens, then of an eighth of the length's power of two: on 10,000
        glosses of WordNet 6 % of the tokens are padding, against 16 % with steps of 8.
        """
        step = max(4, (1 << max(length - 1, 0).bit_length()) // 16)
        return max(step, -(-length // step) * step)

    def rows_at(self, bucket: int) -> int:
        """The rows of one call at padded length `bucket`: `rows` if `tokens` allows them, else 1."""
        return self.rows if self.rows * bucket <= self.tokens else 1

    def threads(self, most: int) -> int:
        """The threads to compute with, of at most `most`: a power of two with 32 rows for each.

        torch gives each thread an equal share of a large tensor, and a share that is no multiple of
        two vectors has a remainder of its own.
        """
        threads = 1
        while threads * 2 <= most and self.rows % (ROWS_UNIT * threads * 2) == 0:
            threads *= 2
        return threads


@final
@dataclass(frozen=True, slots=True)
class LengthRule:
    """Which rows of varying length meet in one shape: part of the fingerprint of each stage with lengths.

    What fills a row up must not reach its result. A model for which that was shown is called at padded
    lengths; any other one at the rows' own lengths, so that nothing is filled up.
    """

    is_exact: bool = False
    """Rows of equal length share a call, and nothing is padded along that dimension."""
    pads_empty: bool = True
    """False: a row of length 0 is computed at length 0, because padding would give it another result."""
    shortest: int = 0
    """The least length that the model takes; a shorter row is a bad one."""
    longest: int | None = None
    """The greatest length that the model takes, None without a limit; a longer row is a bad one."""
    reason: str = ""
    """Why lengths are exact, for people; no part of the fingerprint."""
    groups: tuple[tuple[str, ...], ...] = ()
    """The inputs that share a length, where there are several lengths; () if all inputs of a row must agree.

    A row whose lengths agree is computed as any other; one whose lengths differ is never padded. So this is
    no part of the fingerprint: without it such a row has no result.
    """
    shortest_apart: int = 2
    """The least length that the model takes in a row whose lengths differ."""
    longest_apart: tuple[int | None, ...] = ()
    """The greatest one, group by group; () without limits, or where the model itself refuses a longer row."""

    def __post_init__(self) -> None:
        # JSON has lists.
        object.__setattr__(self, "groups", tuple(tuple(names) for names in self.groups))
        object.__setattr__(self, "longest_apart", tuple(self.longest_apart))

    def group_of(self, name: str) -> int:
        """Which of the lengths of a row that of the input `name` is."""
        return next((place for place, names in enumerate(self.groups) if name in names), 0)

    def length_in_call(self, length: int, micro_batch: MicroBatch) -> int:
        """The length at which a row of `length` is computed."""
        if self.is_exact or (length == 0 and not self.pads_empty):
            return length
        padded = micro_batch.bucket(length)
        return padded if self.longest is None else max(length, min(padded, self.longest))

    def takes(self, length: int) -> bool:
        """True if the model has a result for a row of `length`."""
        return self.shortest <= length and (self.longest is None or length <= self.longest)


@final
@dataclass(frozen=True, slots=True)
class Shapes:
    """In which shapes a model is called; the shape of a row's call follows from the row alone."""

    micro_batch: MicroBatch = MicroBatch()
    length_rule: LengthRule = LengthRule()
    rows_are_own: bool = False
    """True if rows were shown not to change each other, so that a row may stand beside its own copy."""


def end_to_end(parts: Sequence[Rows]) -> Rows:
    """The rows of `parts`, of which there is at least one, laid end to end."""
    if any(isinstance(part, list) for part in parts):
        return [row for part in parts for row in part]
    return np.concatenate(parts)
