"""From a row to its digest, and from a digest to the key of an entry.

    digest = keyed BLAKE2b-256(namespace key; identity, row)                   32 bytes

    key    bytes  content
           0-1    "k1"        the version of this layout
           2      "s"         the kind: a stage's result; no entry is "l", the lease on one
           3-4    namespace   so that a namespace can be found and erased
           5-6    stage       so that a stage can be found and erased
           7-10   "{tt}"      a cluster's hash tag: 64 of them, the first six bits of the digest
           11-26  digest      its first half; the entry holds the second half

    Of an entry that is bound to a subject, bytes 8-15 of the digest are the subject's mark, so that keys
    tell what to erase:

    mark   = keyed BLAKE2b-64(namespace key; subject)

The namespace and stage bytes are short because every entry pays for them: they are labels to
look for, and a collision can erase too much, never give a wrong value. Values are told apart by
the whole digest: 128 bits choose the place and the other 128 are compared when it is read.

Everything is keyed by the namespace, so two namespaces never meet, and without its secret
nobody can find out whether a given text was scored by looking for its key.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from hashlib import blake2b
from typing import NewType, final

import numpy as np

from kvspark.fingerprint import DIGEST_BYTES, digest
from kvspark.store.value_table import byte_rows

NamespaceKey = NewType("NamespaceKey", bytes)
"""32 bytes that key every hash of a namespace."""

KEY_BYTES = 27
HALF_BYTES = DIGEST_BYTES // 2

TAGS = 64
"""Hash tags of the keys."""

_LABEL_BYTES = 2
_MARK = slice(8, 16)
"""Of a digest. Bytes before it choose a cluster's slot, those behind are all compared in the entry."""
_MARK_IN_KEY = slice(19, KEY_BYTES)


def namespace_key(namespace: str, secret: bytes | None, tenant: str | None = None) -> NamespaceKey:
    """The key of a namespace: of its secret and tenant where it has them, and always of its name."""
    owner = [] if tenant is None else [tenant]
    return NamespaceKey(bytes(digest("kvspark.ns", [secret, namespace, *owner])))


def namespace_prefix(key: NamespaceKey) -> bytes:
    """What the keys of all entries of a namespace begin with."""
    return b"k1s" + blake2b(key=key, digest_size=_LABEL_BYTES, person=b"kvspark.space").digest()


def subject_mark(key: NamespaceKey, subject: bytes) -> bytes:
    """The 8 bytes that keys of all entries of `subject`, its canonical bytes, have in one namespace."""
    return blake2b(subject, key=key, digest_size=8, person=b"kvspark.subject").digest()


def lease_keys(keys: Sequence[bytes]) -> list[bytes]:
    """The keys of the leases on the entries `keys`: in the same slots of a cluster, and no entries."""
    return [b"k1l" + key[3:] for key in keys]


def keys_of_subjects(keys: Sequence[bytes], marks: Collection[bytes]) -> list[bytes]:
    """Those of `keys` that belong to a subject with one of `marks`."""
    return [key for key in keys if key[_MARK_IN_KEY] in marks]


def erased_subject(mark: bytes) -> bytes:
    """What a list of erased digests has for all digests of the subject with `mark`; no digest itself."""
    return mark.ljust(DIGEST_BYTES, b"\0")


def is_erased(digest: bytes, erased: Collection[bytes]) -> bool:
    """True if `erased` lists `digest`, or its subject."""
    return digest in erased or erased_subject(digest[_MARK]) in erased


def keys_kept(keys: Collection[bytes], erased: Collection[bytes]) -> list[bytes]:
    """Those of `keys` that are of no digest in `erased`, as far as a key tells, and of no subject there."""
    halves = frozenset(each[:HALF_BYTES] for each in erased)
    return [
        key
        for key in keys
        if key[KEY_BYTES - HALF_BYTES :] not in halves
        and erased_subject(key[_MARK_IN_KEY])[:HALF_BYTES] not in halves
    ]


@final
class RowDigests:
    """Digests of one stage's rows in one namespace."""

    def __init__(self, key: NamespaceKey, identity: bytes) -> None:
        self._key = key
        self._base = blake2b(key=key, digest_size=DIGEST_BYTES, person=b"kvspark.row")
        # The length in front keeps an identity from running into the row.
        self._base.update(len(identity).to_bytes(8, "little") + identity)

    def of(self, rows: Sequence[bytes], subjects: Sequence[bytes] | None = None) -> list[bytes]:
        """One digest of 32 bytes a row, about half a microsecond each for short rows.

        `subjects` are the canonical bytes of whose rows they are.
        """
        if subjects is not None:
            return self._of_subjects(rows, subjects)
        fresh = self._base.copy
        digests = []
        for row in rows:
            hasher = fresh()
            hasher.update(row)
            digests.append(hasher.digest())
        return digests

    def _of_subjects(self, rows: Sequence[bytes], subjects: Sequence[bytes]) -> list[bytes]:
        # The whole subject is hashed too: two whose marks are equal share no entry.
        known = {subject: self._subject(subject) for subject in set(subjects)}
        digests = []
        for row, subject in zip(rows, subjects, strict=True):
            fresh, mark = known[subject]
            hasher = fresh()
            hasher.update(row)
            own = hasher.digest()
            digests.append(own[:8] + mark + own[16:])
        return digests

    def _subject(self, subject: bytes) -> tuple[Callable[[], blake2b], bytes]:
        base = self._base.copy()
        base.update(subject)
        return base.copy, subject_mark(self._key, subject)


@final
class StageKeys:
    """Keys of one stage's entries in one namespace."""

    def __init__(self, key: NamespaceKey, identity: bytes) -> None:
        # A stage's fingerprint comes first in its identity: machines with other arithmetic have
        # other entries under one label, so that all of them can be erased together.
        stage = blake2b(
            identity[:DIGEST_BYTES], key=key, digest_size=_LABEL_BYTES, person=b"kvspark.stage"
        )
        self.prefix = namespace_prefix(key) + stage.digest()
        """The 7 bytes that all keys of the stage begin with."""
        place = blake2b(identity, key=key, digest_size=_LABEL_BYTES, person=b"kvspark.place")
        self.label = int.from_bytes(place.digest(), "little")
        """What entries say of the identity that wrote them."""
        heads = b"".join([self.prefix + b"{%02x}" % (first >> 2) for first in range(256)])
        self._heads = np.frombuffer(heads, dtype=np.uint8).reshape(256, -1)

    def of(self, digests: Sequence[bytes]) -> list[bytes]:
        """One key of 27 bytes a digest, about a tenth of a microsecond each."""
        halves = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES)
        table = np.empty((len(digests), KEY_BYTES), dtype=np.uint8)
        table[:, :-HALF_BYTES] = self._heads[halves[:, 0]]
        table[:, -HALF_BYTES:] = halves[:, :HALF_BYTES]
        return byte_rows(table)
