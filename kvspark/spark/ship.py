"""A model on its way to the workers: its manifest with the task, its files by broadcast.

Each stage has a broadcast of its own. Spark brings every one of them to each executor once; a
Python worker opens only those of the stages that it has to compute, so it never holds the weights
of a trunk that the cache answers for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from pyspark import Broadcast
from pyspark.sql import SparkSession

from kvspark.model.bundle import Bundle
from kvspark.spark.host_files import HostFiles

Files = dict[str, bytes]


@final
@dataclass(frozen=True, slots=True)
class Shipped:
    """A bundle that any worker can open."""

    manifest: bytes
    stages: Mapping[str, Broadcast[Files]]
    """The files of each stage, by their names in the manifest."""

    def destroy(self) -> None:
        """Frees the broadcasts everywhere; nothing can be opened any more. On the driver."""
        for broadcast in self.stages.values():
            broadcast.destroy()


def ship(spark: SparkSession, bundle: Bundle) -> Shipped:
    """`bundle`, broadcast stage by stage.

    Raises:
        BundleError: a file is missing or damaged.
    """
    stages = {
        name: spark.sparkContext.broadcast({file: bundle.path(file).read_bytes() for file in files})
        for name, files in bundle.stage_files.items()
    }
    return Shipped(bundle.manifest, stages)


@final
class HostOpener:
    """Finds the files of a shipped bundle on this host, bringing them here when they are asked for."""

    def __init__(self, shipped: Shipped) -> None:
        self._shipped = shipped
        self._host = HostFiles()
        self.bundle = Bundle(shipped.manifest, self._path)
        self._stage_of = {
            file: stage for stage, files in self.bundle.stage_files.items() for file in files
        }

    def bring_from(self, shipped: Shipped) -> None:
        """Brings files from `shipped`, the same bundle shipped again, from now on.

        A worker outlives the job that it was started for, and that job's broadcasts may be gone
        when a later one is the first to need a stage.
        """
        self._shipped = shipped

    def _path(self, name: str) -> Path:
        saved = self.bundle.files[name]
        return self._host.path(saved["sha256"], saved["size_bytes"], lambda: self._content(name))

    def _content(self, name: str) -> bytes:
        broadcast = self._shipped.stages[self._stage_of[name]]
        content = broadcast.value[name]
        # A broadcast keeps what it has loaded for as long as the worker lives: a second copy of
        # the weights that nobody reads again.
        vars(broadcast).pop("_value", None)
        return content
