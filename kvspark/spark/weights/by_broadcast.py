"""The files of a model as broadcasts: Spark's own way, which works wherever a job does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import pyarrow as pa
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]  # it has no types
from pyspark import Broadcast
from pyspark.sql import SparkSession

from kvspark.errors import ModelError
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.bundle.files import Listed
from kvspark.spark.weights.allocator import return_freed_memory
from kvspark.spark.weights.host_files import HostFiles
from kvspark.spark.weights.transport import Shipped

Files = dict[str, pa.Buffer]

_HEAP_IS_FULL = "java.lang.OutOfMemoryError"


@final
@dataclass(frozen=True, slots=True)
class ByBroadcast(Shipped):
    """Each stage has a broadcast of its own.

    Spark brings every one of them to each executor once, needed or not; a Python worker opens
    only those of the stages that it has to compute, so it never holds the weights of a trunk that
    the cache answers for.
    """

    manifest: bytes
    stages: Mapping[str, Broadcast[Files]]
    """The files of each stage, by their names in the manifest."""

    def path(self, name: str, listed: Listed, host: HostFiles) -> Path:
        """As `Shipped.path`."""
        stage = next(each for each, files in listed.stage_files.items() if name in files)
        # All files of a stage are opened together, and loading a broadcast loads all of them.
        found = {file: self._path(stage, file, listed, host) for file in listed.stage_files[stage]}
        _let_go(self.stages[stage])
        return found[name]

    def _path(self, stage: str, name: str, listed: Listed, host: HostFiles) -> Path:
        saved = listed.files[name]
        return host.path(
            saved["sha256"], saved["size_bytes"], lambda: self.stages[stage].value[name]
        )

    def destroy(self) -> None:
        """As `Shipped.destroy`: the broadcasts are gone everywhere."""
        for broadcast in self.stages.values():
            broadcast.destroy()


def by_broadcast(spark: SparkSession, bundle: Bundle) -> ByBroadcast:
    """`bundle`, broadcast stage by stage, with no copy in this process; not where Spark encrypts.

    Raises:
        BundleError: a file is missing or damaged.
        ModelError: it is too large for the driver's Java heap, which holds all of it once.
    """
    stages: dict[str, Broadcast[Files]] = {}
    shipped = ByBroadcast(bundle.manifest, stages)
    try:
        for name, files in bundle.stage_files.items():
            if files in [bundle.stage_files[each] for each in stages]:
                continue  # the other call of a siamese encoder
            # A mapped file is written to Spark's own page by page.
            content = {file: mapped(bundle.path(file)) for file in files}
            stages[name] = spark.sparkContext.broadcast(content)
    except Py4JJavaError as exc:
        shipped.destroy()
        if _HEAP_IS_FULL not in str(exc):
            raise
        size_bytes = sum(saved["size_bytes"] for saved in bundle.files.values())
        raise ModelError(
            f"a model of {size_bytes:,} bytes is too large to be broadcast by this driver, whose Java "
            "heap is full; nothing was written, send its weights by model.weights path or redis, or "
            "raise spark.driver.memory"
        ) from exc
    return shipped


def _let_go(broadcast: Broadcast[Files]) -> None:
    """Frees what a worker has loaded, which is a second copy of the weights that nobody reads again."""
    if vars(broadcast).pop("_value", None) is not None:
        return_freed_memory()


def mapped(path: Path) -> pa.Buffer:
    """The bytes of a file, read when they are used.

    Raises:
        OSError: it cannot be opened.
    """
    if not path.stat().st_size:
        return pa.py_buffer(b"")
    with pa.memory_map(str(path)) as opened:
        return opened.read_buffer()
