"""Keys that the conf had once, and what to write now: an old conf is told, not only refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REMOVED: Mapping[str, str] = {
    "cache.doorkeeper_bytes": "remove it; where most rows come once, set maxmemory-policy allkeys-lfu on the server",
    "cache.write_behind_bytes": "remove it; write cache.overlap_bytes, which also looks up ahead",
    "cache.look_ahead_bytes": "remove it; write cache.overlap_bytes, which also inserts behind",
}
"""By dotted path."""

_SHUFFLED = "shuffle-"
"""What the names of codecs behind a byte-shuffle began with."""


def removed_codec(name: str) -> str | None:
    """What to say of a codec that there was once; None if there never was one of this name."""
    plain = name.removeprefix(_SHUFFLED)
    if plain == name or plain not in {"zstd", "lz4", "snappy", "zlib"}:
        return None
    return f"codec {name} is gone: write {plain}; what it wrote is computed again"


def removed_key(path: Sequence[str]) -> str | None:
    """What to say of the key at `path`, in a whole conf or in one section; None if it was never a key."""
    dotted = ".".join(path)
    for key, advice in REMOVED.items():
        if key == dotted or key.endswith(f".{dotted}"):
            return f"{key} is gone: {advice}"
    return None
