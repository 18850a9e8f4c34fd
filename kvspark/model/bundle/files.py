"""Where the files of a bundle are, and that they are those that were saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, final

from kvspark.errors import BundleError
from kvspark.fingerprint import file_sha256


class Listed(Protocol):
    """What a manifest says of the files of a model."""

    name: str
    """The model's."""
    files: Mapping[str, Mapping[str, Any]]
    """`sha256` and `size_bytes` of each file, by its name."""
    stage_files: Mapping[str, tuple[str, ...]]
    """The names of each stage's files."""


class BundleFiles(ABC):
    """The files of one bundle; a class for each way in which they come to this machine."""

    folder: Path | None = None
    """Where they are, if they are in one folder; a temporary one for a model that is not saved."""

    @abstractmethod
    def path(self, name: str, listed: Listed) -> Path:
        """The local path of the file that the manifest calls `name`, checked against it.

        Raises:
            BundleError: the file is missing or its bytes are not those that were saved.
        """


@final
class FolderFiles(BundleFiles):
    """Files in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder: Path = folder

    def path(self, name: str, listed: Listed) -> Path:
        saved = listed.files[name]
        found = self.folder / name
        try:
            sha256 = file_sha256(found)
        except OSError as error:
            raise BundleError(
                f"{found} of model {listed.name!r} cannot be read: {error.strerror}"
            ) from error
        if sha256 != saved["sha256"]:
            raise BundleError(
                f"{found} of model {listed.name!r} has sha256 {sha256[:12]}..., the manifest says "
                f"{str(saved['sha256'])[:12]}...; the bundle is damaged, save it again"
            )
        return found
