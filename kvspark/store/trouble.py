"""The words by which trouble with a store is counted."""

from __future__ import annotations

from collections.abc import Iterable

from kvspark.errors import StoreError, StoreFullError, StoreRefusedError
from kvspark.store.redis_error import is_timeout

TIMEOUT = "timeout"
UNAVAILABLE = "unavailable"
FULL = "full"
REFUSED = "refused"
SLOW = "slow"
"""Answers that come, and too late to be worth it."""
SKIPPED = "skipped"
"""A call that was not made because an earlier one had failed."""


def reason_of(exc: BaseException) -> str:
    """The word by which this trouble is counted."""
    if isinstance(exc, StoreRefusedError):
        return REFUSED
    if isinstance(exc, StoreFullError):
        return FULL
    return TIMEOUT if is_timeout(exc) else UNAVAILABLE


def worst(failures: Iterable[StoreError]) -> StoreError:
    """What says most about a call whose parts failed in different ways."""
    return max(
        failures,
        key=lambda each: (isinstance(each, StoreRefusedError), isinstance(each, StoreFullError)),
    )
