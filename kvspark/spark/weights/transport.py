"""A model on its way to the workers: what crosses with a task, and how a file is found on a host.

There are four ways, each a class:

ByBroadcast   Spark's broadcasts, one a stage: every executor gets all stages; needs nothing else
ByArtifact    files of the session, which Spark Connect has instead of broadcasts
ByPath        nothing: workers open the bundle on a file system that they share with the driver
ByStore       the cache's store, in parts by content: a worker gets the stages that it runs, and the
              store what it does not have yet
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from kvspark.model.bundle.files import Listed
from kvspark.spark.weights.host_files import HostFiles


class Shipped(ABC):
    """A bundle that any worker can open. Picklable, and small."""

    manifest: bytes

    @abstractmethod
    def path(self, name: str, listed: Listed, host: HostFiles) -> Path:
        """The path on this host of the file that the manifest calls `name`.

        Guarantees: it has the manifest's SHA-256, and all workers of the host get the same file,
        where one can be written.

        Raises:
            BundleError: it cannot be had, or has other bytes.
        """

    def destroy(self) -> None:
        """Frees what was shipped; nothing can be opened any more. On the driver."""
        return
