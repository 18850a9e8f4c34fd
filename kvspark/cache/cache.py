"""The cache: a store, a namespace, and the promise that neither can fail a job.

    cache = Cache.connect("redis://localhost:6379", namespace="search")
    space = cache.keyspace(identity, specs)
    digests = space.digests(rows)
    lookup = space.lookup(digests)                    found rows
    space.insert(missing, columns, cost_us=900)       rows that were computed

A cache lives in one process. What crosses to another is `cache.config`, which holds no secret and
is opened there with `Cache.from_config`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn, final

from typing_extensions import Unpack

from kvspark.cache.display import html_of, line_of
from kvspark.cache.entry.codec import codec_named
from kvspark.cache.entry.format import EntryFormat
from kvspark.cache.guard.guard import CacheStats, Guard
from kvspark.cache.key.key import NamespaceKey, RowDigests, StageKeys, namespace_key
from kvspark.cache.namespace import namespace_stats as namespace_registry
from kvspark.cache.namespace.blobs import BYTES_SPEC, HALF, Contents
from kvspark.cache.namespace.namespace_stats import NamespaceRegistry
from kvspark.cache.namespace.purge import Purge
from kvspark.cache.namespace.warm import Warm
from kvspark.cache.seal.from_config import open_ring, seal_of
from kvspark.cache.seal.keyring import KeyRing
from kvspark.cache.stage import tombstones
from kvspark.cache.stage.lease import StoreLeases
from kvspark.cache.stage.overlap import Overlap
from kvspark.cache.stage.stage_cache import Lookup, StageCache
from kvspark.cache.stage.store_entries import StoreReader, StoreWriter
from kvspark.cache.stage.tombstones import Tombstones
from kvspark.cache.statistics import Counted
from kvspark.config.cache import CacheConfig
from kvspark.config.reading.arguments import named_as_arguments
from kvspark.config.reading.cache_options import CacheOptions, cache_config
from kvspark.errors import (
    CacheRequiredError,
    SecretError,
    StoreError,
    StoreFullError,
    StoreRefusedError,
    UsageError,
)
from kvspark.fingerprint import digest
from kvspark.spec import TensorSpec
from kvspark.stats import RunStats
from kvspark.store.base import Store
from kvspark.store.deadline import Deadline
from kvspark.store.many import get_many, set_many
from kvspark.store.opening.url import cold_folder, open_store, resolved
from kvspark.store.trouble import FULL, reason_of

__all__ = ["Cache", "CacheStats", "Lookup", "StageCache"]

CHECK_S = 2.0
"""What the check at the start may take at least: a store far away needs some time to connect."""


@final
class Cache:
    """Remembers tensors of stages in the store of `config`; connects when it is first used.

    Raises:
        UsageError: the URL names no store that can be opened.
        SecretError: a secret is named and cannot be read, or entries are to be sealed without keys.
    """

    def __init__(self, config: CacheConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells how old the list of erased rows is."""
        self._config = resolved(config)
        self._ring = open_ring(self._config)
        self._key = namespace_key(config.namespace, _secret(config, self._ring), config.tenant)
        self._store = open_store(self._config)
        self._beside: Store | None = None
        self._timeout_s = config.timeout_ms / 1_000
        self._guard = Guard(self._store, timeout_s=self._timeout_s)
        listed = self._stored(
            self._guard, tombstones.IDENTITY, tombstones.SPECS, ttl_s=tombstones.TTL_S
        )
        self._tombstones = Tombstones(listed, clock=clock)
        self.counted = Counted()
        """For `stats`; whoever computes with this cache adds to it."""

    @classmethod
    def connect(cls, url: str, *, namespace: str, **options: Unpack[CacheOptions]) -> Cache:
        """The cache at `url`, whether or not somebody answers there.

        url: as `cache.url` in a conf: `redis://HOST:PORT/DB`, `unix:///PATH`, `redis+sentinel://...`,
            `redis+cluster://...` (`rediss` for TLS in each), `hbase://...`, `embedded:PATH` or `memory://NAME`,
            without a password.
        namespace: keeps teams apart; two namespaces never share an entry.
        options: every other key of the conf's `cache` section under its name (`ttl_s`, `timeout_ms`,
            `password_env`, `tenant`, `budget_bytes`, ...), with the same meaning and default. `key_file`, `key_env`
            and `key_command` are those of `cache.sealing`. Paths may be `pathlib.Path`.

        Raises:
            UsageError: an option is unknown (names the nearest) or its value wrong.
            SecretError: a secret is named and cannot be read.
        """
        with named_as_arguments():
            return cls(cache_config(url, namespace, options))

    @classmethod
    def from_config(cls, config: CacheConfig) -> Cache:
        """The cache that `config` describes; as `connect`."""
        return cls(config)

    @property
    def config(self) -> CacheConfig:
        """What another process needs to open the same cache."""
        return self._config

    @property
    def store(self) -> Store:
        """Where the bytes of entries are."""
        return self._store

    @property
    def key(self) -> NamespaceKey:
        """What keys every hash of the namespace; a secret where the namespace has one."""
        return self._key

    @property
    def tombstones(self) -> Tombstones:
        """What was erased, and is not inserted."""
        return self._tombstones

    def check(self, *, tries_writing: bool = True) -> str | None:
        """Why the store cannot be used now, in a word; None if it can be read and written.

        For the driver, before anything is done. Without `tries_writing` it is only read.

        Raises:
            SecretError: the store refuses us, which trying again cannot change.
            CacheRequiredError: it is required and does not answer.
        """
        each_s = max(self._timeout_s, CHECK_S)
        (key,) = StageKeys(self._key, b"check").of(RowDigests(self._key, b"check").of([b""]))
        try:
            self._store.ping(Deadline.after(each_s))
            get_many(self._store, [key], Deadline.after(each_s))
            if tries_writing:
                set_many(self._store, [(key, b"")], Deadline.after(each_s), ttl_s=1.0)
        except StoreRefusedError as exc:
            raise SecretError(str(exc)) from exc
        except StoreFullError:
            return FULL
        except StoreError as exc:
            if self._config.required:
                raise CacheRequiredError(
                    f"the cache is required and cannot be reached: {exc}; "
                    "start the store, or leave `required` out to compute everything"
                ) from exc
            return reason_of(exc)
        return None

    def keyspace(
        self,
        identity: bytes,
        specs: tuple[TensorSpec, ...],
        *,
        codec: str = "raw",
        life: float = 1.0,
        guard: Guard | None = None,
    ) -> StageCache:
        """The entries of the stage whose results `identity` names, with the tensors `specs`.

        `codec` is for writing, one of `kvspark.cache.entry.codec`; entries of any of them are read. `life`
        is the part of the TTL that its entries are kept. `guard` is that of another connection.

        Raises:
            UsageError: the codec is unknown, or the tensors have no entry (text).
        """
        keys = StageKeys(self._key, identity)
        from_ms, offered = self._config.lease_from_ms, None
        if from_ms is not None and (leases := self._store.leases()) is not None:
            offered = StoreLeases(self._guard, leases, keys, from_s=from_ms / 1_000)
        stored = self._stored(
            guard or self._guard,
            identity,
            specs,
            codec=codec,
            ttl_s=self._config.ttl_s * life,
            erased=self._tombstones,
        )
        return replace(stored, leases=offered)

    def overlap(self) -> Overlap | None:
        """What looks rows up and inserts them beside the computation; None where the conf has no room for it."""
        if self._config.overlap_bytes is None:
            return None
        self._beside = self._beside or self._store.beside()
        return Overlap(
            self._guard.beside(self._beside),
            self._config.overlap_bytes,
            looks_ahead=self._beside is not self._store,
        )

    def purge(self, *, sleep: Callable[[float], None] = time.sleep) -> Purge:
        """What removes entries of this namespace, `sleep`s until nobody inserts them; not for the time of a job.

        It looks past what this process keeps in its own memory.
        """
        store = open_store(self._config.model_copy(update={"l1_bytes": None}))
        return Purge(store, self._key, self._tombstones, sleep=sleep)

    def warm(self) -> Warm:
        """What lifts entries of this namespace from the cold tier into the store.

        Raises:
            UsageError: the conf has no cold tier.
        """
        if self._config.cold is None:
            raise UsageError("the conf has no cold tier to lift from; name one in cache.cold")
        store = open_store(self._config.model_copy(update={"l1_bytes": None, "cold": None}))
        return Warm(store, cold_folder(self._config.cold), self._key, self._tombstones)

    def _stored(
        self,
        guard: Guard,
        identity: bytes,
        specs: tuple[TensorSpec, ...],
        *,
        codec: str = "raw",
        ttl_s: float,
        erased: Tombstones | None = None,
    ) -> StageCache:
        keys = StageKeys(self._key, identity)
        seal = seal_of(self._ring, self._key, identity)
        entry_format = EntryFormat(specs, codec_named(codec), seal=seal, label=keys.label)
        return StageCache(
            RowDigests(self._key, identity),
            StoreReader(guard, keys, entry_format),
            StoreWriter(guard, keys, entry_format, ttl_s=ttl_s, tombstones=erased),
        )

    def contents(self) -> Contents:
        """Large contents by their hash: weights on their way to workers."""
        parts, marks, lists = (
            self.keyspace(digest("kvspark.contents", kind), BYTES_SPEC, life=life)
            for kind, life in (("part", 1.0), ("mark", HALF), ("list", HALF))
        )
        return Contents(parts, marks, lists, self.drain)

    def registry(self) -> NamespaceRegistry:
        """What runs have written to this namespace, by stage."""
        space = self.keyspace(
            namespace_registry.IDENTITY, namespace_registry.SPECS, life=namespace_registry.LIFE
        )
        return NamespaceRegistry(space, ttl_s=self._config.ttl_s)

    def stats(self) -> RunStats:
        """What was looked up, found and computed with this object so far, by stage; opens nothing.

        By `Model.predict`, and by the tables of `kvspark.score` and `udf` whose actions have returned;
        under Spark Connect nobody hears what workers count.
        """
        now = self._guard.since_drain()
        return self.counted.stats + RunStats(cache_errors=now.errors, degraded=now.degraded)

    def __repr__(self) -> str:
        return f"Cache({line_of(self._config)})"

    def _repr_html_(self) -> str:
        return html_of(self._config, self.stats(), is_sealed=self._ring is not None)

    def drain(self) -> CacheStats:
        """What did not go as it should since the last drain; empty in a healthy run."""
        trouble = self._guard.drain()
        self.counted.add(RunStats(cache_errors=trouble.errors, degraded=trouble.degraded))
        return trouble

    def close(self) -> None:
        """Lets go of the store; the next lookup opens it again."""
        self._store.close()
        if self._beside is not None:
            self._beside.close()

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "a Cache holds a connection and cannot be pickled; send cache.config and open it there "
            "with Cache.from_config, or give the cache to kvspark.score, which does so"
        )


def _secret(config: CacheConfig, ring: KeyRing | None) -> bytes | None:
    """What keys the hashes: the namespace's own secret, else the ring's."""
    secret = config.secret()
    return ring.keys().hashing if secret is None and ring is not None else secret
