"""Removes entries of a namespace, and shows that they are gone.

By stage, by age, by subject or by row. A row's entries are found by their keys, which follow from the row, the
stage and the arithmetic of the machine that computed it. Entries of a stage that say they come from
other arithmetic than is known here may be the row's or not: they are removed as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

from kvspark.cache.entry.header import created_s, is_entry, label
from kvspark.cache.key.key import (
    NamespaceKey,
    RowDigests,
    StageKeys,
    erased_subject,
    keys_of_subjects,
    namespace_prefix,
    subject_mark,
)
from kvspark.cache.stage.tombstones import SETTLE_S, Tombstones
from kvspark.errors import CacheRequiredError, SecretError, StoreError, StoreRefusedError
from kvspark.store.base import Store
from kvspark.store.deadline import Deadline
from kvspark.store.many import get_many

CALL_S = 30.0
"""What one call to the store may take: nobody waits for a purge."""

COPY_S = 5.0
"""No copy from one tier to another takes so long."""

_STEP = 256


@final
@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge did."""

    entries: int
    """Entries that were there and are gone."""
    of_others: int = 0
    """Of these, entries whose arithmetic is not known here: the rows' or not."""
    left: int = 0
    """Entries that should be gone and are there; 0 is the proof."""


@final
class Purge:
    """The entries of the namespace `key` in `store`.

    Raises:
        CacheRequiredError: from every method, if the store does not answer; some entries may be gone.
        SecretError: from every method, if it does not let us look for entries or remove them.
    """

    def __init__(
        self,
        store: Store,
        key: NamespaceKey,
        tombstones: Tombstones,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._key = key
        self._tombstones = tombstones
        self._sleep = sleep

    def stages(self, fingerprints: Sequence[bytes]) -> Purged:
        """Removes all entries of the stages, whatever computed them.

        Stages share their two bytes of label with one in 65,536 others, whose entries go too.
        """
        prefixes = [StageKeys(self._key, fingerprint).prefix for fingerprint in fingerprints]
        entries = self._removed(
            lambda: sum(self._delete(keys) for prefix in prefixes for keys in self._scan(prefix))
        )
        return Purged(entries, left=sum(len(k) for prefix in prefixes for k in self._scan(prefix)))

    def older_than(self, before_s: int) -> Purged:
        """Removes the entries of the namespace that were written before `before_s`, since 1970.

        What is no entry of this version is older than any.
        """

        def old() -> Iterator[list[bytes]]:
            for keys, values in self._entries(namespace_prefix(self._key)):
                yield _old(keys, values, before_s)

        entries = self._removed(lambda: sum(self._delete(keys) for keys in old()))
        left = sum(len(keys) for keys in old())
        return Purged(entries, left=left)

    def rows(
        self, identities: Mapping[bytes, Sequence[bytes]], subjects: Sequence[bytes] | None = None
    ) -> Purged:
        """Removes the entries of rows, and keeps runs that are under way from inserting them again.

        identities: the canonical bytes of the rows, by the identity of a stage: all that are known.
        subjects: of whom each of the rows is, where entries are bound to subjects.
        """
        digests = {
            identity: RowDigests(self._key, identity).of(rows, subjects)
            for identity, rows in identities.items()
        }
        self._forbid([each for some in digests.values() for each in some])
        keys = [
            key
            for identity, some in digests.items()
            for key in StageKeys(self._key, identity).of(some)
        ]
        entries = self._removed(lambda: sum(self._delete(part) for part in _parts(keys)))
        others = self._removed(lambda: self._of_others(identities))
        left = sum(value is not None for part in _parts(keys) for value in self._get(part))
        return Purged(entries + others, others, left)

    def subjects(self, subjects: Sequence[bytes]) -> Purged:
        """Removes all entries that are bound to `subjects`, and keeps runs from inserting such again.

        Every stage of every model, whatever computed it: their keys tell them. One subject in 2^64 has
        the mark of another one, whose entries would go too.
        """
        marks = frozenset(subject_mark(self._key, subject) for subject in subjects)
        self._forbid([erased_subject(mark) for mark in marks])
        prefix = namespace_prefix(self._key)
        entries = self._removed(
            lambda: sum(self._delete(keys_of_subjects(keys, marks)) for keys in self._scan(prefix))
        )
        left = sum(len(keys_of_subjects(keys, marks)) for keys in self._scan(prefix))
        return Purged(entries, left=left)

    def _removed(self, remove: Callable[[], int]) -> int:
        """What `remove` returns; done again when nobody copies back any more what was removed."""
        removed = remove()
        if removed and self._store.remembered_s:
            self._sleep(self._store.remembered_s + COPY_S)
            remove()
        return removed

    def _forbid(self, erased: Sequence[bytes]) -> None:
        """Lists what may not be inserted, and returns when nobody does."""
        if not self._tombstones.add(erased):
            raise CacheRequiredError(
                "the list of what may not come back could not be written; nothing was removed, try again"
            )
        self._sleep(SETTLE_S)

    def _of_others(self, identities: Mapping[bytes, object]) -> int:
        """Removes the entries of the identities' stages that other arithmetic has made."""
        labels: dict[bytes, set[int]] = {}
        for identity in identities:
            stage = StageKeys(self._key, identity)
            labels.setdefault(stage.prefix, set()).add(stage.label)
        removed = 0
        for prefix, ours in labels.items():
            for keys, values in self._entries(prefix):
                foreign = [
                    key
                    for key, value in zip(keys, values, strict=True)
                    if value is not None and not (is_entry(value) and label(value) in ours)
                ]
                removed += self._delete(foreign)
        return removed

    def _entries(self, prefix: bytes) -> Iterator[tuple[list[bytes], list[bytes | None]]]:
        for keys in self._scan(prefix):
            for part in _parts(keys):
                yield part, self._get(part)

    def _scan(self, prefix: bytes) -> Iterator[list[bytes]]:
        with _told():
            yield from self._store.scan(prefix, each_s=CALL_S)

    def _get(self, keys: list[bytes]) -> list[bytes | None]:
        with _told():
            return get_many(self._store, keys, Deadline.after(CALL_S))

    def _delete(self, keys: Sequence[bytes]) -> int:
        with _told():
            return sum(self._store.delete(part, Deadline.after(CALL_S)) for part in _parts(keys))


@contextmanager
def _told() -> Iterator[None]:
    """Turns a store's error into one that is told to a person."""
    try:
        yield
    except StoreRefusedError as exc:
        raise SecretError(
            f"{exc}; a purge needs a user that may SCAN and UNLINK, see conf/redis/README.md"
        ) from exc
    except StoreError as exc:
        raise CacheRequiredError(f"{exc}; entries may be left, run the purge again") from exc


def _old(keys: list[bytes], values: list[bytes | None], before_s: int) -> list[bytes]:
    pairs = zip(keys, values, strict=True)
    return [key for key, value in pairs if value is not None and created_s(value) < before_s]


def _parts(keys: Sequence[bytes]) -> Iterator[list[bytes]]:
    return (list(keys[at : at + _STEP]) for at in range(0, len(keys), _STEP))
