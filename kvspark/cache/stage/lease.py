"""Leases on the rows of a stage: who computes a row that several processes lack.

A lease is an optimisation and nothing else. Whatever goes wrong with it (the store is away or full, a
lease is lost, has ended too early or is had twice) means that a row is computed, by one process or by
two, to the same bits.

    lease    as the key of the row's entry (`kvspark.cache.key.key`), of the kind "l"; holds nothing

It ends by itself (`store.redis.leases`), so that what a purge leaves of a row is gone after `MOST_S`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from kvspark.cache.guard.guard import Guard
from kvspark.cache.key.key import StageKeys, lease_keys
from kvspark.store.leases import Leases

MOST_S = 300.0
"""The longest life of a lease: who computes longer may be overtaken by another, who computes as well."""

Mask = npt.NDArray[np.bool_]


class RowLeases(ABC):
    """The leases of one stage's rows."""

    from_s: float
    """Rows that take less time to compute are not worth one."""

    @abstractmethod
    def claim(self, digests: Sequence[bytes], *, ttl_s: float) -> Mask:
        """Which of the rows are the caller's to compute, for `ttl_s`; all of them in case of trouble."""


@final
class StoreLeases(RowLeases):
    """Those that a store gives."""

    def __init__(self, guard: Guard, leases: Leases, keys: StageKeys, *, from_s: float) -> None:
        self._guard = guard
        self._leases = leases
        self._keys = keys
        self.from_s = from_s

    @override
    def claim(self, digests: Sequence[bytes], *, ttl_s: float) -> Mask:
        keys = lease_keys(self._keys.of(digests))
        ttl_s = min(ttl_s, MOST_S)
        claimed = self._guard.ask(
            lambda deadline: self._leases.claim_many(keys, deadline, ttl_s=ttl_s)
        )
        return np.array([True] * len(digests) if claimed is None else claimed, dtype=np.bool_)


@final
class AdmittedLeases(RowLeases):
    """Of those rows alone that are stored: for the others nobody could wait."""

    def __init__(self, leases: RowLeases, admits: Callable[[Sequence[bytes]], Mask]) -> None:
        self._leases = leases
        self._admits = admits
        self.from_s = leases.from_s

    @override
    def claim(self, digests: Sequence[bytes], *, ttl_s: float) -> Mask:
        stored = self._admits(digests)
        wanted = [digests[i] for i in np.flatnonzero(stored).tolist()]
        ours = np.ones(len(digests), dtype=np.bool_)
        if wanted:
            ours[stored] = self._leases.claim(wanted, ttl_s=ttl_s)
        return ours
