"""A model's own runtime: what its owner would call for one row, without kvspark."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from kvspark.errors import ModelError
from kvspark.spec import TensorSpec

Array = npt.NDArray[Any]

Row = Mapping[str, Any]
"""One row by the model's inputs: an array of the row's own shape, a text, or bytes."""

RunRow = Callable[[Row], Mapping[str, Array]]
"""Gives the outputs of one row by name, without a batch dimension; raises what the runtime raises."""


class OwnRuntime(ABC):
    """What runs a model where kvspark is not: opened when it is asked for, and kept in no bundle."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is, in a few words for a report."""

    @property
    def is_independent(self) -> bool:
        """False if it is made of the bundle that it is compared with."""
        return True

    @property
    def is_half(self) -> bool:
        """True if it computes in half precision, whatever its outputs are."""
        return False

    @abstractmethod
    def open(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> RunRow:
        """What computes one row of `inputs`, unpadded and in no other row's company.

        Raises:
            ModelError: the runtime is not installed, or what it runs is gone or was changed.
        """


class FileRuntime(OwnRuntime):
    """A library, on the file that a model was made of."""

    library: str

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).absolute()
        self._state = self._now()

    @property
    def name(self) -> str:
        return f"{self.library} on {self._path.name}"

    def path(self) -> Path:
        """Where the file is, which is as it was.

        Raises:
            ModelError: it is gone, or was written since.
        """
        if self._state is None or self._now() != self._state:
            raise ModelError(
                f"{self._path} is gone or was changed since the model was made of it; make the model "
                "again, or pass runtime="
            )
        return self._path

    def _now(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns


def named(made: Any, outputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The outputs of a call with one row, by name; `made` is an array, several in order, or a mapping.

    Raises:
        ModelError: it lacks one.
    """
    return {name: array[0] for name, array in batched(made, outputs).items()}


def batched(made: Any, outputs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The outputs of a call by name, its rows first; `made` is an array, several in order, or a mapping.

    Raises:
        ModelError: it lacks one.
    """
    names = [spec.name for spec in outputs]
    if not isinstance(made, Mapping):
        parts = list(made) if isinstance(made, list | tuple) else [made]
        made = dict(zip(names, parts, strict=False))
    lacking = [name for name in names if name not in made]
    if lacking:
        raise ModelError(
            f"the model's own runtime gives no {lacking[0]!r}; it gives {', '.join(map(str, made))}"
        )
    # Copies: the next call may use its buffers again.
    return {name: np.array(made[name]) for name in names}


def of_one_row(
    call: Callable[[int], Mapping[str, Array]], outputs: Sequence[TensorSpec]
) -> dict[str, Array]:
    """The outputs of a row, of a call with it alone, or with it twice where that gives no batch of one.

    A model that squeezes what it gives has results for several rows only.
    """
    made = call(1)
    if not _has_rows(made, outputs, 1):
        both = call(2)
        made = both if _has_rows(both, outputs, 2) else made
    return {spec.name: made[spec.name][0] for spec in outputs}


def _has_rows(made: Mapping[str, Array], outputs: Sequence[TensorSpec], count: int) -> bool:
    return all(
        made[spec.name].ndim == 1 + len(spec.shape) and len(made[spec.name]) == count
        for spec in outputs
    )


def batch_of_one(row: Row, spec: TensorSpec) -> Array:
    """The value of `row` for the input `spec` as an array (1, *shape)."""
    return np.ascontiguousarray(np.asarray(row[spec.name])[None])
