"""Features: the stage that turns raw columns of a row into the tensors that a model takes."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from kvspark.errors import BundleError, RowError
from kvspark.model.run.computation import Computation
from kvspark.model.stage.stage import Stage
from kvspark.spec import TensorSpec

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class Features(ABC):
    """A pure function of a row's raw columns, with files that its bundle carries."""

    kind: str
    libraries: tuple[str, ...]
    """The distributions whose builds decide its results."""

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


def each_row(
    stage: str, what: str, contents: Sequence[bytes], read: Callable[[bytes], T]
) -> Iterator[tuple[int, T]]:
    """Each row's place and what `read` makes of its content; `what` it is called in an error.

    Raises:
        RowError: `read` failed. Names the stage, the place and the kind of trouble, and is chained to
            nothing: the text of a decoder's own error may quote the content.
    """
    for row, content in enumerate(contents):
        try:
            made = read(content)
        except MemoryError:
            raise
        except RowError as error:
            raise row_error(stage, row, f"the {what} {error}") from None
        except Exception as error:  # noqa: BLE001 - decoders raise what they like
            kind = type(error).__name__
            raise row_error(stage, row, f"the {what} cannot be decoded ({kind})", kind) from None
        yield row, made


def row_error(stage: str, row: int, trouble: str, kind: str = "RowError") -> RowError:
    """The error that the row at place `row` has no result at `stage`, with what to do about it."""
    advice = "filter the row out, mend it, or choose on_bad_row"
    return RowError(f"stage {stage!r}: {trouble}; {advice}", row, trouble, kind)


def read_settings(stage: Stage, path: Path) -> dict[str, Any]:
    """The settings that a feature stage of a bundle was written with.

    Raises:
        BundleError: they cannot be read.
    """
    try:
        settings: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BundleError(
            f"stage {stage.name!r}: its settings cannot be read ({type(error).__name__})"
        ) from error
    return settings
