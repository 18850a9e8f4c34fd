"""The files of a model in the cache's store, by content: what changed goes in, what is run comes out.

A store may lose anything, and weights must not be lost: what a worker does not find there it reads
from the model's own folder, if it can see it. Where it cannot, the task fails, and the job starts once
more, by broadcast.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

from kvspark.config.cache import CacheConfig
from kvspark.errors import UsageError, WeightsUnavailableError
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.bundle.chunks import pieces_of
from kvspark.model.bundle.files import Listed
from kvspark.spark.weights.by_broadcast import mapped
from kvspark.spark.weights.host_files import HostFiles
from kvspark.spark.weights.transport import Shipped

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache

_LOG = logging.getLogger(__name__)


@final
@dataclass(frozen=True, slots=True)
class ByStore(Shipped):
    """The first worker of a host that runs a stage fetches its files, and those of no other stage."""

    manifest: bytes
    cache: CacheConfig
    folder: str | None
    """Where the driver has the files."""
    sent_bytes: int
    """What the store did not have yet."""

    def path(self, name: str, listed: Listed, host: HostFiles) -> Path:
        """As `Shipped.path`.

        Raises:
            WeightsUnavailableError: neither the store nor the model's folder has the file.
        """
        digest, size_bytes = listed.files[name]["sha256"], listed.files[name]["size_bytes"]
        try:
            return host.path(digest, size_bytes, lambda: self._content(digest, size_bytes))
        except WeightsUnavailableError:
            found = None if self.folder is None else Path(self.folder, name)
            if found is None or not found.is_file():
                raise
            host.check(found, digest)
            return found

    def _content(self, digest: str, size_bytes: int) -> bytearray:
        with closing(_open(self.cache)) as cache:
            content = cache.contents().get(digest, size_bytes)
        if content is None:
            raise WeightsUnavailableError(
                f"the store {self.cache.url} has lost a file of the model (sha256 {digest[:12]}...) or does "
                "not answer; try again, or take another way for the weights (model.weights: broadcast)"
            )
        return content


def by_store(bundle: Bundle, config: CacheConfig | None) -> ByStore | None:
    """`bundle` in the store of `config`; None if the store does not take it.

    Reads only files that the store does not have.

    Raises:
        BundleError: such a file is missing or damaged.
        UsageError: there is no cache, or one that no other process can see.
    """
    if config is None or config.url.startswith("memory:"):
        raise UsageError(
            "weights='redis' needs a cache that the workers can reach; name one in cache.url, or take "
            "weights='broadcast'"
        )
    sent_bytes, size_bytes = 0, 0
    with closing(_open(config)) as cache:
        contents = cache.contents()
        for name, saved in bundle.files.items():
            size_bytes += saved["size_bytes"]
            if contents.has(saved["sha256"]):
                continue
            content = memoryview(mapped(bundle.path(name)))
            sent = contents.put(saved["sha256"], pieces_of(name, content))
            if sent is None:
                _LOG.warning("the store %s did not take the weights: broadcast", config.url)
                return None
            sent_bytes += sent
    _LOG.info("sent %d of the model's %d bytes to %s", sent_bytes, size_bytes, config.url)
    folder = bundle.source.folder
    return ByStore(
        bundle.manifest, config, None if folder is None else str(folder.absolute()), sent_bytes
    )


def _open(config: CacheConfig) -> Cache:
    from kvspark.cache.cache import Cache

    return Cache.from_config(config)
