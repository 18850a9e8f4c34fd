"""Features: the stage that turns raw columns of a row into the tensors that a model takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kvspark.model.computation import Computation
from kvspark.spec import TensorSpec

if TYPE_CHECKING:
    import torch


class Features(ABC):
    """A pure function of a row's raw columns, with files that its bundle carries."""

    kind: str
    library: str
    """The distribution whose build decides its results."""

    @property
    @abstractmethod
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The raw columns that it takes."""

    @property
    @abstractmethod
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The tensors that it gives for a row; a varying dimension is their common length."""

    @property
    @abstractmethod
    def pads(self) -> Mapping[str, int]:
        """What fills each output up to its bucket."""

    @property
    @abstractmethod
    def content(self) -> bytes:
        """Digest of everything that its results depend on, whatever has been called before."""

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Writes the files from which `computation` opens it again."""

    @abstractmethod
    def computation(self) -> Computation:
        """The function itself."""

    @abstractmethod
    def example(self) -> dict[str, torch.Tensor]:
        """Two rows of its outputs, padded: what torch.export is shown."""
