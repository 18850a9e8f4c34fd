"""Keys that the conf had once, and what to write now: an old conf is told, not only refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REMOVED: Mapping[str, str] = {
    "cache.doorkeeper_bytes": "remove it; where most rows come once, set maxmemory-policy allkeys-lfu on the server",
}
"""By dotted path."""


def removed_key(path: Sequence[str]) -> str | None:
    """What to say of the key at `path`, in a whole conf or in one section; None if it was never a key."""
    dotted = ".".join(path)
    for key, advice in REMOVED.items():
        if key == dotted or key.endswith(f".{dotted}"):
            return f"{key} is gone: {advice}"
    return None
