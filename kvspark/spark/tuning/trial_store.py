"""The cache of trials: the job's own store where others reach it, and entries that the job never sees."""

from __future__ import annotations

import secrets
import shutil
import tempfile
from pathlib import Path
from typing import final

from kvspark.cache.cache import Cache
from kvspark.config.cache import CacheConfig

TTL_S = 900.0
"""After which entries of trials end by themselves: the job's user may not remove any."""
_EMBEDDED = "embedded:"


@final
class TrialStore:
    """Makes caches in which nothing was stored yet.

    In a store of others each has a namespace of its own, with entries that end soon. An embedded store is
    another one, in a folder that is removed.
    """

    def __init__(self, config: CacheConfig) -> None:
        self._folder: Path | None = None
        url = config.url
        if url.startswith(_EMBEDDED):
            self._folder = Path(tempfile.mkdtemp(prefix="kvspark-tune-"))
            url = f"{_EMBEDDED}{self._folder / 'store'}"
        self._token = secrets.token_hex(4)
        self._made = 0
        self.config = self._named(config.model_copy(update={"url": url}))
        """The conf of a cache of trials, for what a run stores before it computes."""
        self.url = config.url
        """Where the job's own cache is."""

    def empty(self, config: CacheConfig) -> Cache:
        """A cache as of `config`, with the store and a namespace of trials."""
        changed = config.model_copy(update={"url": self.config.url})
        return Cache.from_config(self._named(changed))

    def _named(self, config: CacheConfig) -> CacheConfig:
        self._made += 1
        changed = {
            "cold": None,
            "ttl_s": min(TTL_S, config.ttl_s),
            "namespace": f"{config.namespace}-tune-{self._token}-{self._made}",
        }
        return config.model_copy(update=changed)

    @property
    def told(self) -> str:
        """Where its entries are, and what becomes of them."""
        if self._folder is not None:
            return "an embedded store of its own, removed at the end"
        return f"namespaces of their own in {self.url}; what is left there ends in {TTL_S / 60:.0f} minutes"

    def close(self) -> None:
        """Removes an embedded one; its caches are closed."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
