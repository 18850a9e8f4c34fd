"""What tests ask of a store: one list a call, patiently unless the test says how long."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from typing import TypeVar

from kvspark.store import many
from kvspark.store.base import Entries, Keys, Store
from kvspark.store.deadline import Deadline
from kvspark.store.value_table import Part

T = TypeVar("T")

PATIENT_S = 20.0
"""For what answers in the end, however busy the machine is."""


def get_many(store: Store, keys: Keys, *, timeout_s: float = PATIENT_S) -> list[bytes | None]:
    """The values of `keys`."""
    return many.get_many(store, keys, Deadline.after(timeout_s))


def set_many(
    store: Store, entries: Entries, *, ttl_s: float | None, timeout_s: float = PATIENT_S
) -> int:
    """How many were taken."""
    return many.set_many(store, entries, Deadline.after(timeout_s), ttl_s=ttl_s)


def delete(store: Store, keys: Keys, *, timeout_s: float = PATIENT_S) -> int:
    """How many were there."""
    return store.delete(keys, Deadline.after(timeout_s))


def ping(store: Store, *, timeout_s: float = PATIENT_S) -> None:
    """Returns if the store answers."""
    store.ping(Deadline.after(timeout_s))


def scanned(store: Store, prefix: bytes) -> list[bytes]:
    """The keys that begin with `prefix`."""
    return [key for keys in store.scan(prefix, each_s=PATIENT_S) for key in keys]


def read(
    store: Store, windows: Iterable[Keys], *, value_bytes: int, timeout_s: float = PATIENT_S
) -> list[Part]:
    """All parts."""
    with closing(store.read(windows, Deadline.after(timeout_s), value_bytes=value_bytes)) as parts:
        return list(parts)


def written(store: Store, windows: Iterable[Entries], *, ttl_s: float | None) -> list[int]:
    """How many were taken of each window."""
    with closing(store.write(windows, Deadline.after(PATIENT_S), ttl_s=ttl_s)) as counts:
        return list(counts)


def taken(
    answers: Generator[T, None, None], into: list[T], after: Callable[[], object] = lambda: None
) -> None:
    """Adds all of `answers` to `into`, and calls `after` with each."""
    with closing(answers):
        for answer in answers:
            into.append(answer)
            after()
