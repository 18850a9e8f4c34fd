"""Columns of tensors as payloads of bytes, a row each, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.cache.entry.header import Opened
from kvspark.cache.seal.base import Table
from kvspark.errors import UsageError
from kvspark.spec import Rows, TensorSpec


@final
class Columns:
    """The tensors of one stage's rows, `specs`, which lie behind each other in a payload."""

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        self._specs = tuple(specs)
        self._dtypes = [spec.numpy_dtype for spec in specs]
        sizes = [spec.bytes_per_row for spec in specs]
        self._sizes = [size_bytes or 0 for size_bytes in sizes]
        self.is_fixed = None not in sizes
        """True if all payloads have `size_bytes` bytes."""
        self.size_bytes = sum(self._sizes)
        """Bytes of a row's tensors; where they vary, 0 for those."""
        self.shapes = [_dims(spec) for spec in specs]
        """Of a row's tensors; 0 where a dimension varies."""

    def checked(self, columns: Sequence[Rows], count: int) -> list[Rows]:
        """`columns` if they are `count` rows each; one array each where the size of a row is fixed.

        Raises:
            UsageError: the columns are not those of the specs; a mistake of the caller.
        """
        if len(columns) != len(self._specs):
            raise UsageError(f"{len(columns)} columns to store, the stage has {len(self._specs)}")
        return [
            _checked(spec, column, count) for spec, column in zip(self._specs, columns, strict=True)
        ]

    def payloads(self, columns: Sequence[Rows], count: int) -> Table:
        """(count, size_bytes): the tensors of each row of a fixed size, side by side."""
        tables = [
            np.ascontiguousarray(column).reshape(count, -1).view(np.uint8)
            for column, size_bytes in zip(columns, self._sizes, strict=True)
            if size_bytes
        ]
        if len(tables) == 1:
            return tables[0]
        return np.hstack(tables) if tables else np.empty((count, 0), dtype=np.uint8)

    def cut(self, payloads: Table) -> tuple[Rows, ...]:
        """The tensors that payloads of a fixed size hold."""
        if len(self._specs) == 1 and payloads.flags.writeable and payloads.size:
            # Fresh memory that nobody else has: it is the column.
            (spec,) = self._specs
            flat = np.ascontiguousarray(payloads).reshape(-1).view(spec.numpy_dtype)
            return (flat.reshape(len(payloads), *_dims(spec)),)
        columns: list[Rows] = []
        at = 0
        for spec, size_bytes in zip(self._specs, self._sizes, strict=True):
            column = np.empty((len(payloads), *_dims(spec)), dtype=spec.numpy_dtype)
            if column.size:
                flat = column.reshape(len(payloads), -1).view(np.uint8)
                flat[:] = payloads[:, at : at + size_bytes]
            columns.append(column)
            at += size_bytes
        return tuple(columns)

    def cut_each(self, entries: Sequence[Opened]) -> tuple[Rows, ...]:
        """The tensors that payloads of any size hold."""
        columns: list[list[npt.NDArray[np.generic]]] = [[] for _ in self._specs]
        for entry in entries:
            at = 0
            for dtype, shape, column in zip(self._dtypes, entry.shapes, columns, strict=True):
                size = math.prod(shape)
                if size:
                    array = np.frombuffer(entry.raw, dtype, size, at).reshape(shape).copy()
                    at += array.nbytes
                else:
                    array = np.empty(shape, dtype)
                column.append(array)
        return tuple(
            _stacked(spec, column) if spec.is_fixed else column
            for spec, column in zip(self._specs, columns, strict=True)
        )


def _checked(spec: TensorSpec, column: Rows, count: int) -> Rows:
    """`column` if it is `count` rows of `spec`; one array where the size of a row is fixed."""
    if len(column) != count:
        raise UsageError(f"tensor {spec.name} has {len(column)} rows for {count} digests")
    if isinstance(column, np.ndarray):
        kinds = {(column.dtype, column.shape[1:])}
    else:
        kinds = {(array.dtype, array.shape) for array in column}
    for dtype, shape in kinds:
        fits = len(shape) == len(spec.shape) and all(
            want in (None, got) for want, got in zip(spec.shape, shape, strict=True)
        )
        if dtype != spec.numpy_dtype or not fits:
            raise UsageError(
                f"tensor {spec.name} is {spec.numpy_dtype.name} {spec.shape} a row, "
                f"got {dtype.name} {shape}; store what the stage computed, unchanged"
            )
    return _stacked(spec, column) if spec.is_fixed and isinstance(column, list) else column


def _stacked(spec: TensorSpec, rows: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    return np.stack(rows) if rows else np.empty((0, *_dims(spec)), spec.numpy_dtype)


def _dims(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(dim or 0 for dim in spec.shape)
