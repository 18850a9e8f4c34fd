"""A cache for people: in a line and in a notebook. Neither opens the store nor holds a secret."""

from __future__ import annotations

from kvspark.config.cache import CacheConfig
from kvspark.config.section.secret import has_password
from kvspark.display import heading
from kvspark.stats import RunStats

_DAY_S = 86_400


def line_of(config: CacheConfig) -> str:
    """Where it is, and its namespace."""
    return f"{_url(config)!r}, namespace={config.namespace!r}"


def html_of(config: CacheConfig, stats: RunStats, *, is_sealed: bool) -> str:
    """The same with what was counted so far."""
    told = (
        f"namespace {config.namespace}",
        "entries are sealed" if is_sealed else "entries in clear",
        f"kept {config.ttl_s / _DAY_S:,.1f} days",
    )
    counts = stats._repr_html_() if stats.rows else ""
    return heading(f"Cache {_url(config)}", *told) + counts


def _url(config: CacheConfig) -> str:
    # A conf takes no URL with a password; nothing that shows itself relies on that.
    return "..." if has_password(config.url) else config.url
