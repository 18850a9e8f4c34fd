"""The files of a model where they are: a folder that every machine sees at the same path."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import final

from kvspark.errors import UsageError
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.bundle.files import Listed
from kvspark.model.bundle.manifest import MANIFEST
from kvspark.spark.weights.host_files import HostFiles
from kvspark.spark.weights.transport import Shipped


@final
@dataclass(frozen=True, slots=True)
class ByPath(Shipped):
    """Workers map the files of `folder` themselves; each host checks them once.

    Nothing but the manifest is read on the driver. The folder must stay as it is while a job runs.
    """

    manifest: bytes
    folder: str

    def path(self, name: str, listed: Listed, host: HostFiles) -> Path:
        """As `Shipped.path`."""
        found = Path(self.folder, name)
        host.check(found, listed.files[name]["sha256"])
        return found


def by_path(bundle: Bundle) -> ByPath:
    """`bundle` in the folder that it was loaded from.

    Raises:
        UsageError: it was not loaded from one.
    """
    folder = bundle.source.folder
    if folder is None or not (folder / MANIFEST).is_file():
        raise UsageError(
            f"model {bundle.name!r} is in no folder that workers could open: save it to a shared one "
            "and load it from there (Model.save, Model.load), or use weights='broadcast'"
        )
    return ByPath(bundle.manifest, str(folder.absolute()))
