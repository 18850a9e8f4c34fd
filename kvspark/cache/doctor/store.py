"""Whether the store of a conf is there, safe, and large enough."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import final

from kvspark.cache.doctor.access import Visitor, access, is_local
from kvspark.cache.doctor.finding import Finding, size_text
from kvspark.cache.doctor.server import judged
from kvspark.config.cache import CacheConfig
from kvspark.errors import SecretError, StoreError, StoreRefusedError
from kvspark.store.base import Store
from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.opening.url import open_store
from kvspark.store.redis.server_info import Interview, interview

CALL_S = 5.0
"""What one server may take for each of a few questions."""

FILLED = 0.9
"""Of maxmemory, before entries push each other out."""

ANSWERS = "answers"
"""How the finding of a server begins that was reached, whatever else is wrong with it."""


@final
@dataclass(frozen=True, slots=True)
class Need:
    """Memory that a job's entries will take."""

    size_bytes: int
    source: str
    """How that is known."""


def store_findings(
    config: CacheConfig, visitor: Visitor | None, need: Need | None
) -> Iterator[Finding]:
    """What is right and wrong with the store of `config`, all of its servers.

    `visitor` is a user who may look where the job's own may not.

    Raises:
        UsageError: the URL names no store that can be opened.
    """
    try:
        # The server alone: memory of a worker says nothing, the cold tier is looked at by itself.
        store = open_store(config.model_copy(update={"l1_bytes": None, "cold": None}))
    except SecretError as exc:
        yield Finding("bad", "password", str(exc))
        return
    with closing(store):
        servers = _servers(store, config)
        if isinstance(servers, Finding):
            yield servers
            return
        if not servers:
            nothing = f"{ANSWERS}; no Redis server, so nothing else to look at"
            yield Finding("ok", config.url, nothing)
            return
        told: list[Interview] = []
        for each in servers:
            yield from _server(each, config, visitor, told)
    yield from _capacity(told, need)


def _servers(store: Store, config: CacheConfig) -> list[Endpoint] | Finding:
    """The servers of a store that answers; what is wrong if it does not."""
    try:
        store.ping(Deadline.after(CALL_S))
        return store.servers(Deadline.after(CALL_S))
    except StoreError as exc:
        return _no_answer(config.url, exc)


def _server(
    server: Endpoint, config: CacheConfig, visitor: Visitor | None, told: list[Interview]
) -> Iterator[Finding]:
    """What is found at one server; adds what it said to `told`."""
    inspector = server
    if visitor is not None:
        inspector = replace(server, username=visitor.username, password=visitor.password)
    is_cluster = "+cluster" in config.url
    try:
        said = interview(inspector, Deadline.after(CALL_S))
        told.append(said)
        yield _speed(said, config)
        yield _transport(server)
        is_private = config.url.startswith("embedded:")
        yield from judged(said, is_private=is_private, is_cluster=is_cluster)
        yield from access(
            server,
            inspector,
            is_private=is_private,
            is_cluster=is_cluster,
            timeout_s=CALL_S,
        )
    except StoreError as exc:
        yield _no_answer(str(server), exc)


def _no_answer(place: str, exc: StoreError) -> Finding:
    if isinstance(exc, StoreRefusedError):
        return Finding(
            "bad",
            place,
            str(exc),
            "we are let in",
            "check cache.username, the password, cache.tls_ca_file, and conf/redis/users.acl",
        )
    return Finding("bad", place, str(exc), "an answer", "start the store, or mend the network")


def _speed(said: Interview, config: CacheConfig) -> Finding:
    got = f"{ANSWERS} in {said.ping_ms:.1f} ms"
    if said.ping_ms <= config.timeout_ms / 10:
        return Finding("ok", said.place, got)
    return Finding(
        "warn",
        said.place,
        got,
        f"a tenth of cache.timeout_ms ({config.timeout_ms})",
        "raise cache.timeout_ms, or use a store that is nearer",
    )


def _transport(server: Endpoint) -> Finding:
    what = f"{server} TLS"
    if server.is_tls:
        return Finding("ok", what, "on, and its certificate was checked")
    if is_local(server):
        return Finding("ok", what, "off, and no network in between")
    return Finding(
        "warn",
        what,
        "off: the password and the times of reads are seen on the network",
        "on",
        "write rediss:// and name the CA with cache.tls_ca_file",
    )


def _capacity(told: Sequence[Interview], need: Need | None) -> Iterator[Finding]:
    what = "memory for a night"
    infos = [each.info for each in told if each.info is not None]
    limits = [int(info.get("maxmemory", "0") or 0) for info in infos]
    if need is None:
        advice = "run the job once, or set cache.budget_bytes"
        yield Finding("unseen", what, "no run has told yet how many bytes it needs", advice=advice)
        return
    if not limits or len(infos) < len(told) or not all(limits):
        return
    got = f"{size_text(need.size_bytes)} ({need.source}) of {size_text(sum(limits))}"
    if need.size_bytes <= FILLED * sum(limits):
        yield Finding("ok", what, got)
        return
    yield Finding(
        "warn",
        what,
        got,
        f"at most {FILLED:.0%}",
        f"raise maxmemory, or set cache.budget_bytes to {int(FILLED * sum(limits))}",
    )
