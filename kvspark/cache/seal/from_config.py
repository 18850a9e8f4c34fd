"""Whether the entries of a conf are sealed, and with which keys."""

from __future__ import annotations

from collections.abc import Callable

from kvspark.cache.key.key import NamespaceKey
from kvspark.cache.seal.base import CHECKSUM, Seal
from kvspark.cache.seal.keyring import KeyRing
from kvspark.config.cache import CacheConfig
from kvspark.errors import SecretError


def open_ring(config: CacheConfig) -> KeyRing | None:
    """The keys that `config` names; None where entries are stored in clear.

    Raises:
        SecretError: entries are to be sealed, and no keys are named or they cannot be read.
    """
    if not config.is_sealed:
        return None
    if not config.sealing.is_named:
        raise SecretError(
            f"entries at {config.url} are sealed, because others can reach that store, and no keys are "
            "named; run `kvspark keygen FILE` and set cache.sealing.key_file=FILE on driver and "
            "executors, or set cache.sealed=false to store them in clear; nothing was written"
        )
    return KeyRing(config.sealing)


def seal_of(ring: KeyRing | None, key: NamespaceKey, identity: bytes) -> Callable[[], Seal]:
    """How entries of the stage `identity` are closed, asked again before each use."""
    if ring is None:
        return lambda: CHECKSUM
    # cryptography takes 30 ms to import: not where entries are in clear.
    from kvspark.cache.seal.aes_gcm import StageKeyring

    return StageKeyring(ring.keys, key, identity)
