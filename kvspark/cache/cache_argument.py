"""What a caller gives as `cache`: a cache, or the URL of one."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from kvspark.errors import UsageError

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache

_MEMORY = "memory://"


def given_cache(cache: Cache | str | None, *, namespace: str) -> Cache | None:
    """The cache itself, or the one at the URL that `cache` is, in `namespace` and with what else is the default.

    `memory://` is this process's memory under the namespace's name, so that a second call finds what
    the first has left.

    Raises:
        UsageError: it is neither a cache nor a URL of a store.
        SecretError: entries are to be sealed and there are no keys.
    """
    if cache is None:
        return None
    from kvspark.cache.cache import Cache

    if isinstance(cache, Cache):
        return cache
    if not isinstance(cache, str):
        raise UsageError(
            f"cache: expected a kvspark.Cache or the URL of a store, for example redis://localhost:6379, got "
            f"{type(cache).__name__}"
        )
    url = f"{_MEMORY}{quote(namespace, safe='')}" if cache == _MEMORY else cache
    return Cache.connect(url, namespace=namespace)
