"""Entries in cipher: AES-256-GCM (NIST SP 800-38D), bound to the row, the stage and the tenant.

    sub-key          keyed BLAKE2b-256(key = master; namespace key, identity of the stage, first
                     byte of the digest)
    associated data  the digest, which the key of the entry follows from, and its header
    nonce            12 random bytes

The namespace key holds namespace, tenant and secret, so that no two of them have a sub-key in
common, and a value that is moved to another key, or whose header was changed, does not open.

There are 256 sub-keys a stage, one for each first byte of a digest, and not one for each entry:
making a cipher takes longer than opening 768 bytes with it (1.2 + 0.5 against 1.0 microseconds),
and a hit would cost twice as much. A key may be used 2^32 times with random nonces: 2^40 entries
a stage, 30 years of 100 million a night, before a master key must be rotated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import final

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from typing_extensions import override

from kvspark.cache.key.key import NamespaceKey
from kvspark.cache.seal.base import (
    KEY_ID_AT,
    KEY_ID_END,
    LARGE_BYTES,
    NOT_AUTHENTIC,
    UNKNOWN_KEY,
    OpenedTable,
    Reason,
    Seal,
    Table,
)
from kvspark.cache.seal.keyring import Keys
from kvspark.fingerprint import DIGEST_BYTES
from kvspark.store.value_table import byte_rows

NONCE_BYTES = 12
TAG_BYTES = 16

_NONE: tuple[AESGCM, ...] = ()
"""The ciphers of a key that is not there."""


@final
class StageKeyring:
    """The seal of one stage, made anew when the ring's keys change."""

    def __init__(
        self,
        keys: Callable[[], Keys],
        namespace: NamespaceKey,
        identity: bytes,
        *,
        nonces: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._keys = keys
        self._stage = (namespace, identity)
        self._nonces = nonces
        self._made: tuple[Keys, AesSeal] | None = None

    def __call__(self) -> AesSeal:
        """The seal to use now."""
        keys, made = self._keys(), self._made
        if made is None or made[0] is not keys:
            made = keys, AesSeal(keys, *self._stage, nonces=self._nonces)
            self._made = made
        return made[1]


@final
class AesSeal(Seal):
    """Closes with the primary of `keys` and opens with all of them.

    `nonces` gives so many random bytes.
    """

    flags = 1
    end_bytes = TAG_BYTES + NONCE_BYTES

    def __init__(
        self,
        keys: Keys,
        namespace: NamespaceKey,
        identity: bytes,
        *,
        nonces: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.key_id = keys.primary
        self._nonces = nonces
        self._ciphers = {
            key_id.to_bytes(2, "little"): _ciphers(master, namespace, identity)
            for key_id, master in keys.masters.items()
        }

    @override
    def close_table(self, heads: Table, payloads: Table, digests: Sequence[bytes]) -> list[bytes]:
        ciphers = self._ciphers[self.key_id.to_bytes(2, "little")]
        random = np.frombuffer(self._nonces(NONCE_BYTES * len(heads)), dtype=np.uint8)
        nonces = byte_rows(random.reshape(-1, NONCE_BYTES))
        closed = map(
            AESGCM.encrypt,
            [ciphers[digest[0]] for digest in digests],
            nonces,
            payloads if payloads.shape[1] >= LARGE_BYTES else byte_rows(payloads),
            _bound(digests, heads),
        )
        return list(map(b"".join, zip(byte_rows(heads), closed, nonces, strict=True)))

    @override
    def close_one(self, head: bytes, payload: bytes, digest: bytes) -> bytes:
        cipher = self._ciphers[self.key_id.to_bytes(2, "little")][digest[0]]
        nonce = self._nonces(NONCE_BYTES)
        return head + cipher.encrypt(nonce, payload, digest + head) + nonce

    @override
    def open_many(
        self, values: Sequence[bytes], digests: Sequence[bytes], head_bytes: int
    ) -> OpenedTable:
        heads = [value[:head_bytes] for value in values]
        size = len(values[0]) - head_bytes - self.end_bytes
        right = np.ones(len(values), dtype=np.bool_)
        open_each = self._large if size >= LARGE_BYTES else self._small
        opened = open_each(values, digests, heads, right)
        table = np.frombuffer(b"".join(heads), dtype=np.uint8).reshape(len(heads), head_bytes)
        return OpenedTable(table, opened.reshape(len(heads), size), right)

    def _small(
        self,
        values: Sequence[bytes],
        digests: Sequence[bytes],
        heads: Sequence[bytes],
        right: npt.NDArray[np.bool_],
    ) -> Table:
        """The payloads, one behind the other: for small ones bytes are cheaper than views."""
        find, opened = self._ciphers.get, []
        begin, nothing = len(heads[0]), bytes(len(values[0]) - len(heads[0]) - self.end_bytes)
        for row, (value, digest, head) in enumerate(zip(values, digests, heads, strict=True)):
            try:
                cipher = find(head[KEY_ID_AT:KEY_ID_END], _NONE)[digest[0]]
                payload = cipher.decrypt(
                    value[-NONCE_BYTES:], value[begin:-NONCE_BYTES], digest + head
                )
                opened.append(payload)
            except (InvalidTag, IndexError):  # noqa: PERF203 - one that does not open is one miss.
                right[row] = False
                opened.append(nothing)
        return np.frombuffer(bytearray().join(opened), dtype=np.uint8)

    def _large(
        self,
        values: Sequence[bytes],
        digests: Sequence[bytes],
        heads: Sequence[bytes],
        right: npt.NDArray[np.bool_],
    ) -> Table:
        """As `_small`; each is written where it stays."""
        find, begin, at = self._ciphers.get, len(heads[0]), 0
        size = len(values[0]) - begin - self.end_bytes
        opened = np.empty(size * len(values), dtype=np.uint8)
        room = opened.data
        for row, (value, digest, head) in enumerate(zip(values, digests, heads, strict=True)):
            try:
                cipher = find(head[KEY_ID_AT:KEY_ID_END], _NONE)[digest[0]]
                closed = memoryview(value)[begin:-NONCE_BYTES]
                cipher.decrypt_into(
                    value[-NONCE_BYTES:], closed, digest + head, room[at : at + size]
                )
            except (InvalidTag, IndexError):
                right[row] = False
            at += size
        return opened

    @override
    def open_slab(self, table: Table, bound: Table, room: Table) -> bool:
        ids = bound[:, DIGEST_BYTES + KEY_ID_AT : DIGEST_BYTES + KEY_ID_END].tobytes()
        ciphers = self._ciphers.get(ids[:2])
        if ciphers is None or ids != ids[:2] * len(bound):
            return False  # While keys are changed: one by one.
        try:
            _open_all(
                table[:, bound.shape[1] - DIGEST_BYTES : -NONCE_BYTES],
                room,
                [*map(ciphers.__getitem__, bound[:, 0].tolist())],
                byte_rows(table[:, -NONCE_BYTES:]),
                byte_rows(bound),
            )
        except InvalidTag:
            return False
        return True

    @override
    def open_one(self, value: bytes, digest: bytes, head_bytes: int) -> memoryview | Reason:
        ciphers = self._ciphers.get(value[KEY_ID_AT:KEY_ID_END])
        if ciphers is None:
            return UNKNOWN_KEY
        try:
            payload = ciphers[digest[0]].decrypt(
                value[-NONCE_BYTES:],
                memoryview(value)[head_bytes:-NONCE_BYTES],
                digest + value[:head_bytes],
            )
        except InvalidTag:
            return NOT_AUTHENTIC
        return memoryview(payload)


def _bound(digests: Sequence[bytes], heads: Table) -> list[bytes]:
    """The associated data of each row."""
    table = np.empty((len(heads), DIGEST_BYTES + heads.shape[1]), dtype=np.uint8)
    table[:, :DIGEST_BYTES] = np.frombuffer(b"".join(digests), np.uint8).reshape(-1, DIGEST_BYTES)
    table[:, DIGEST_BYTES:] = heads
    return byte_rows(table)


def _open_all(
    closed: Table,
    room: Table,
    ciphers: list[AESGCM],
    nonces: list[bytes],
    associated: list[bytes],
) -> None:
    if room.shape[1] >= LARGE_BYTES:
        for cipher, nonce, row, data, place in zip(
            ciphers, nonces, closed, associated, room, strict=True
        ):
            cipher.decrypt_into(nonce, row, data, place)
        return
    # Bytes are made and given to OpenSSL faster than views of arrays are: 1.3 us a row, not 1.7.
    opened = b"".join(map(AESGCM.decrypt, ciphers, nonces, byte_rows(closed), associated))
    room[:] = np.frombuffer(opened, dtype=np.uint8).reshape(room.shape)


def _ciphers(master: bytes, namespace: NamespaceKey, identity: bytes) -> list[AESGCM]:
    base = blake2b(key=master, digest_size=32, person=b"kvspark.seal")
    base.update(namespace + len(identity).to_bytes(8, "little") + identity)
    ciphers = []
    for first in range(256):
        derived = base.copy()
        derived.update(bytes([first]))
        ciphers.append(AESGCM(derived.digest()))
    return ciphers
