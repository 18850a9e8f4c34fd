"""From a URL to a store.

    memory://             this process's memory, a new store each time
    memory://NAME         the same, one store per name in a process
    redis://HOST:PORT/DB  a Redis or Valkey server
    rediss://HOST:PORT/DB the same over TLS, the certificate and its name checked
    unix:///PATH?db=N     the same over a unix socket
    redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB
                          the server that these sentinels call SERVICE's primary
    redis+cluster://HOST:PORT,HOST:PORT
                          the cluster that these are some nodes of
    rediss+sentinel://, rediss+cluster://
                          the same over TLS
    hbase://HOST:PORT/TABLE
                          a table of HBase, through its Thrift gateway
    embedded:PATH         a private server on this machine that lives in the folder PATH

`?max_bytes=N` bounds a store in memory or an embedded one.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from kvspark.config.cache import CacheConfig
from kvspark.config.store_url import STORES, split_store_url
from kvspark.errors import UsageError
from kvspark.store.base import Store
from kvspark.store.endpoint import Endpoint

if TYPE_CHECKING:
    from kvspark.store.files.segment_folder import Folder

_COLD_LIFE_S = 120.0
"""What a plan writes to measure a store lives half of that (`kvspark.infer.planning.store_cost`); a segment lives on."""
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
    """The store of `config` with all its tiers, not connected yet.

    Raises:
        UsageError: the URL names no store that can be opened.
        SecretError: a password is named and cannot be read.
    """
    shared = _open_url(config)
    if config.l1_bytes is None and config.cold is None:
        return shared
    from kvspark.store.tiered.tier import Tier
    from kvspark.store.tiered.tiered import TieredStore, process_memory

    tiers = [Tier(shared, copy_ttl_s=config.ttl_s)]
    if config.l1_bytes is not None:
        tiers.insert(0, process_memory(config.l1_bytes))
    if config.cold is not None:
        from kvspark.store.files.cold import ColdStore

        cold = ColdStore(cold_folder(config.cold))
        tiers.append(Tier(cold, copy_ttl_s=config.ttl_s, least_life_s=_COLD_LIFE_S))
    return TieredStore(tiers)


def cold_folder(url: str) -> Folder:
    """The folder of segments at `url`.

    Raises:
        UsageError: the URL names no file system, or its client is not installed.
    """
    from kvspark.store.files.segment_folder import Folder

    try:
        return Folder.at(url)
    except UsageError as exc:
        raise UsageError(f"cache.cold: {exc}") from exc
    except ValueError as exc:
        raise UsageError(f"cache.cold: {exc}; write for example file:///PATH") from exc


def _open_url(config: CacheConfig) -> Store:
    """The store that the URL names.

    Raises:
        UsageError: the URL names no store that can be opened.
        SecretError: a password is named and cannot be read.
    """
    url = config.url
    if config.tls_ca_file is not None and not url.startswith("rediss"):
        raise UsageError(f"cache.tls_ca_file is given and {url} is not encrypted; write rediss://")
    if url.startswith(_EMBEDDED):
        from kvspark.store.embedded import embedded

        path, bound = _embedded(url)
        max_bytes = embedded.MAX_BYTES if bound is None else bound
        return embedded.EmbeddedStore(path, max_bytes=max_bytes)
    parts = split_store_url(url)
    if parts.scheme == "memory":
        return _memory(parts)
    if parts.scheme in ("redis", "rediss", "unix"):
        from kvspark.store.redis.server import RedisStore

        return RedisStore(_endpoint(parts, config))
    if parts.scheme in ("redis+cluster", "rediss+cluster"):
        return _cluster(parts, config)
    if parts.scheme in ("redis+sentinel", "rediss+sentinel"):
        return _sentinel(parts, config)
    if parts.scheme == "hbase":
        return _hbase(parts, config)
    raise UsageError(f"{url} is no store; write {STORES}")


def _embedded(url: str) -> tuple[Path, int | None]:
    text = url.removeprefix(_EMBEDDED)
    found = _BOUND.search(text)
    path = Path(_BOUND.sub("", text))
    if path == Path():
        raise UsageError(f"{url} names no folder; write for example embedded:cache")
    return path.expanduser().absolute(), None if found is None else int(found[1])


def _memory(parts: SplitResult) -> Store:
    from kvspark.store.memory.memory import MAX_BYTES, memory_store

    options = _options(parts, {"max_bytes"})
    return memory_store(parts.netloc + parts.path, _number(options, "max_bytes", MAX_BYTES))


def _cluster(parts: SplitResult, config: CacheConfig) -> Store:
    from kvspark.store.cluster.cluster import ClusterStore

    _options(parts, set(_CHECKS))
    if parts.path.strip("/"):
        raise UsageError(f"{parts.geturl()} has a path; a cluster has no databases")
    entered = _entered(parts, config)
    seeds = [replace(entered, host=host, port=port) for host, port in _places(parts, 6379)]
    return ClusterStore(seeds)


def _sentinel(parts: SplitResult, config: CacheConfig) -> Store:
    from kvspark.store.redis.sentinel import SentinelStore

    options = _options(parts, {"db", *_CHECKS})
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise UsageError(f"{parts.geturl()} names no service; write {parts.scheme}://HOST/SERVICE")
    if db:
        options = {"db": db, **options}
    entered = _entered(parts, config)
    sentinels = [replace(entered, host=host, port=port) for host, port in _places(parts, 26379)]
    primary = replace(entered, db=_number(options, "db", 0))
    return SentinelStore(sentinels, unquote(service), primary)


def _hbase(parts: SplitResult, config: CacheConfig) -> Store:
    if importlib.util.find_spec("happybase") is None:
        raise UsageError("hbase:// needs happybase; run pip install 'kvspark[hbase]'")
    from kvspark.store.hbase.hbase import Gateway, HBaseStore

    if config.username or config.password_env or config.password_file:
        raise UsageError("cache.username and password are given; HBase's gateway takes neither")
    options = _options(parts, {"transport"})
    transport = options.get("transport", "buffered")
    if transport not in ("buffered", "framed"):
        raise UsageError(f"transport in the cache's URL is {transport!r}; write buffered or framed")
    ((host, port),) = _places(parts, 9090)
    table = unquote(parts.path.strip("/")) or "kvspark"
    gateway = Gateway(host, port, table, is_framed=transport == "framed")
    return HBaseStore(gateway)


def _endpoint(parts: SplitResult, config: CacheConfig) -> Endpoint:
    options = _options(parts, {"db", *_CHECKS})
    entered = _entered(parts, config)
    if parts.scheme == "unix":
        path = unquote(parts.path)
        if parts.netloc or not path:
            raise UsageError(f"{parts.geturl()} names no socket; write unix:///PATH, three slashes")
        return replace(entered, socket_path=path, db=_number(options, "db", 0))
    if parts.path.strip("/"):
        options = {"db": parts.path.strip("/"), **options}
    ((host, port),) = _places(parts, 6379)
    return replace(entered, host=host, port=port, db=_number(options, "db", 0))


def _entered(parts: SplitResult, config: CacheConfig) -> Endpoint:
    """How all servers of a store are entered, wherever they are."""
    ca_file = config.tls_ca_file
    if ca_file is not None and not Path(ca_file).is_file():
        raise UsageError(f"cache.tls_ca_file {ca_file} is not there; it must be on every machine")
    return Endpoint(
        is_tls=parts.scheme.startswith("rediss"),
        tls_ca_file=ca_file,
        username=config.username,
        password=config.password(),
    )


def _places(parts: SplitResult, port: int) -> list[tuple[str, int]]:
    """The hosts and ports of a URL that may name several, with a comma between them."""
    places = []
    for each in parts.netloc.split(","):
        one = urlsplit(f"//{each}")
        try:
            places.append((one.hostname or "localhost", one.port or port))
        except ValueError:
            raise UsageError(f"{each!r} in the cache's URL is not HOST:PORT") from None
    if len(places) > 1 and "+" not in parts.scheme:
        raise UsageError(
            f"{parts.geturl()} names several servers; write redis+cluster:// or redis+sentinel://"
        )
    return places


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
