"""Whether the job's user may do what a job does, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

from kvspark.cache.doctor.finding import Finding
from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis.server_info import Words, allowed, refusal, would_allow

_KEY = b"k1{00}doctor"
_OTHER = b"kvspark-doctor"

_READ: Words = (b"MGET", _KEY)
_WRITE: Words = (b"SET", _KEY, b"", b"PX", b"1000")

NEEDED: Mapping[str, Words] = {"PING": (b"PING",), "MGET": _READ, "SET": _WRITE}

CLUSTER: Mapping[str, Words] = {"CLUSTER SLOTS": (b"CLUSTER", b"SLOTS"), "ASKING": (b"ASKING",)}
"""What a job needs on the nodes of a cluster as well."""

HARMLESS: Mapping[str, Words] = {
    "MGET of other keys": (b"MGET", _OTHER),
    "CONFIG GET": (b"CONFIG", b"GET", b"maxmemory"),
    "EVAL": (b"EVAL", b"return(1)", b"0"),
    "DBSIZE": (b"DBSIZE",),
}
"""What a job does not need, and what can be tried without doing harm."""

HARMFUL: Mapping[str, Words] = {
    "FLUSHALL": (b"FLUSHALL",),
    "KEYS": (b"KEYS", b"*"),
    "SCAN": (b"SCAN", b"0"),
    "CONFIG SET": (b"CONFIG", b"SET", b"maxmemory", b"0"),
    "MONITOR": (b"MONITOR",),
    "CLIENT KILL": (b"CLIENT", b"KILL", b"0.0.0.0:0"),
    "REPLICAOF": (b"REPLICAOF", b"NO", b"ONE"),
    "ACL SETUSER": (b"ACL", b"SETUSER", _OTHER),
    "SHUTDOWN": (b"SHUTDOWN",),
}
"""What is only asked about, with ACL DRYRUN."""


@final
@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks, where the job's own user may not look: a user of the server and its password."""

    username: str
    password: bytes | None


def access(
    job: Endpoint,
    inspector: Endpoint,
    *,
    is_private: bool,
    is_cluster: bool,
    timeout_s: float,
) -> Iterator[Finding]:
    """What the job's user may do on one server; `inspector` is who may ask about it.

    A private server is of one user of this machine, who may do everything anyway.

    Raises:
        StoreError: the server does not answer, or refuses us.
    """
    what = f"{job} user {job.username or 'default'}"
    needed = {**NEEDED, **(CLUSTER if is_cluster else {})}
    may = allowed(job, [*needed.values()], Deadline.after(timeout_s))
    missing = [name for name, each in zip(needed, may, strict=True) if not each]
    trouble = None if missing else refusal(job, _WRITE, Deadline.after(timeout_s))
    if missing:
        yield Finding(
            "bad",
            what,
            f"may not {', '.join(missing)}",
            f"{', '.join(needed)} under k1*",
            "give it the line of conf/redis/users.acl",
        )
    elif trouble is not None:
        yield Finding("bad", f"{job} writes", trouble, "an entry is taken", "make room")
    else:
        yield Finding("ok", what, f"may {', '.join(needed)}")
    if job.password is None:
        yield _no_password(job, what)
    if not is_private:
        yield from _more_than_needed(job, inspector, what, timeout_s=timeout_s)


def _no_password(job: Endpoint, what: str) -> Finding:
    got = "comes in without a password"
    if is_local(job):
        return Finding(
            "warn", what, f"{got}, as all of this machine can", "a password for each user"
        )
    return Finding(
        "bad",
        what,
        f"{got}, as all can who reach the server",
        "a password for each user",
        "take conf/redis/users.acl, and name the password with cache.password_file",
    )


def _more_than_needed(
    job: Endpoint, inspector: Endpoint, what: str, *, timeout_s: float
) -> Iterator[Finding]:
    asked: Mapping[str, Words] = {**HARMLESS, **HARMFUL}
    user = job.username or "default"
    may = would_allow(inspector, user, [*asked.values()], Deadline.after(timeout_s))
    if may is None:
        asked = HARMLESS
        may = allowed(job, [*asked.values()], Deadline.after(timeout_s))
        if not any(may):
            yield Finding("ok", f"{what} limits", f"none of {', '.join(asked)}")
            yield Finding(
                "unseen",
                f"{what} limits",
                f"{', '.join(HARMFUL)} cannot be tried, and nobody may ask ACL DRYRUN",
                advice="run kvspark doctor --as kvspark-doctor, a user of conf/redis/users.acl; Redis 6 knows no DRYRUN",
            )
            return
    more = [name for name, each in zip(asked, may, strict=True) if each]
    if more:
        yield Finding(
            "warn",
            f"{what} limits",
            f"may {', '.join(more)} too",
            "what a job needs and nothing else",
            "take the user of conf/redis/users.acl",
        )
    else:
        yield Finding("ok", f"{what} limits", f"none of {', '.join(asked)}")


def is_local(endpoint: Endpoint) -> bool:
    """True if the server is reached without a network."""
    host = endpoint.host
    return bool(endpoint.socket_path) or host in ("localhost", "::1") or host.startswith("127.")
