"""A run that can no longer say what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class DeadRun:
    """A run that held a lock when its process was killed, or its machine stopped."""

    run_id: str
    since: str
    """When it took the lock, in ISO 8601."""
