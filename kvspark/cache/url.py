"""From a URL to a store.

    memory://             this process's memory, a new store each time
    memory://NAME         the same, one store per name in a process
    redis://HOST:PORT/DB  a Redis or Valkey server
    rediss://HOST:PORT/DB the same over TLS, the certificate and its name checked
    unix:///PATH?db=N     the same over a unix socket
    embedded:PATH         a private server on this machine that lives in the folder PATH

`?max_bytes=N` bounds a store in memory or an embedded one.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from kvspark.cache.store.base import Store
from kvspark.cache.store.endpoint import Endpoint
from kvspark.config.cache import CacheConfig
from kvspark.errors import UsageError

_EMBEDDED = "embedded:"
_BOUND = re.compile(r"\?max_bytes=(\d+)$")

_CHECKS = frozenset({"ssl_cert_reqs", "ssl_check_hostname"})
"""What the configuration allows to be said, because it changes nothing."""


def resolved(config: CacheConfig) -> CacheConfig:
    """`config` with names that mean the same in every process, whatever its directory is."""
    if config.is_sealed and config.sealing.is_named:
        config = config.model_copy(update={"sealing": config.sealing.explicit()})
    if not config.url.startswith(_EMBEDDED):
        return config
    path, bound = _embedded(config.url)
    suffix = "" if bound is None else f"?max_bytes={bound}"
    return config.model_copy(update={"url": f"{_EMBEDDED}{path}{suffix}"})


def open_store(config: CacheConfig) -> Store:
    """The store of `config`, not connected yet.

    Raises:
        UsageError: the URL names no store that can be opened.
        SecretError: a password is named and cannot be read.
    """
    url, timeout_s = config.url, config.timeout_ms / 1_000
    if config.tls_ca_file is not None and not url.startswith("rediss://"):
        raise UsageError(f"cache.tls_ca_file is given and {url} is not encrypted; write rediss://")
    if url.startswith(_EMBEDDED):
        from kvspark.cache.store import embedded

        path, bound = _embedded(url)
        max_bytes = embedded.MAX_BYTES if bound is None else bound
        return embedded.EmbeddedStore(path, timeout_s=timeout_s, max_bytes=max_bytes)
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return _memory(parts)
    if parts.scheme in ("redis", "rediss", "unix"):
        from kvspark.cache.store.redis import RedisStore

        return RedisStore(_endpoint(parts, config), timeout_s=timeout_s)
    if parts.scheme in ("redis+cluster", "redis+sentinel"):
        raise UsageError(f"{parts.scheme}:// is not there yet; name a single server with redis://")
    raise UsageError(
        f"{url} is no store; write redis://HOST:PORT, rediss://HOST:PORT, unix:///PATH, "
        "embedded:PATH or memory://"
    )


def _embedded(url: str) -> tuple[Path, int | None]:
    text = url.removeprefix(_EMBEDDED)
    found = _BOUND.search(text)
    path = Path(_BOUND.sub("", text))
    if path == Path():
        raise UsageError(f"{url} names no folder; write for example embedded:cache")
    return path.expanduser().absolute(), None if found is None else int(found[1])


def _memory(parts: SplitResult) -> Store:
    from kvspark.cache.store.memory import MAX_BYTES, memory_store

    options = _options(parts, {"max_bytes"})
    return memory_store(parts.netloc + parts.path, _number(options, "max_bytes", MAX_BYTES))


def _endpoint(parts: SplitResult, config: CacheConfig) -> Endpoint:
    options = _options(parts, {"db", *_CHECKS})
    if parts.scheme == "unix":
        where = {"socket_path": unquote(parts.path)}
        if parts.netloc or not where["socket_path"]:
            raise UsageError(f"{parts.geturl()} names no socket; write unix:///PATH, three slashes")
    else:
        where = {"host": parts.hostname or "localhost"}
        if parts.path.strip("/"):
            options = {"db": parts.path.strip("/"), **options}
    ca_file = config.tls_ca_file
    if ca_file is not None and not Path(ca_file).is_file():
        raise UsageError(f"cache.tls_ca_file {ca_file} is not there; it must be on every machine")
    return Endpoint(
        **where,
        port=parts.port or 6379,
        db=_number(options, "db", 0),
        is_tls=parts.scheme == "rediss",
        tls_ca_file=ca_file,
        username=config.username,
        password=config.password(),
    )


def _options(parts: SplitResult, known: set[str]) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = sorted(options.keys() - known)
    if unknown or parts.fragment:
        raise UsageError(
            f"the cache's URL has {', '.join(unknown) or 'a fragment'}; "
            f"after the ? it takes {', '.join(sorted(known - _CHECKS))}"
        )
    return options


def _number(options: dict[str, str], name: str, default: int) -> int:
    text = options.get(name, str(default))
    if not text.isdecimal():
        raise UsageError(f"{name} in the cache's URL is {text!r}; write a whole number")
    return int(text)
