"""The `cache` section: where the store is and how long it is waited for.

It holds references to secrets and no secret, so that it may travel to executors as it is.
"""

from __future__ import annotations

import re
from typing import Any, final
from urllib.parse import parse_qsl, urlsplit

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from kvspark.config.sealing import SealingConfig
from kvspark.config.section.base import Name, Section
from kvspark.config.section.secret import resolve_secret
from kvspark.config.store_url import SCHEMES, STORES, split_store_url

__all__ = ["CacheConfig", "resolve_secret"]

_LOCAL = frozenset({"embedded", "memory"})
"""Kinds of URL that have no user, so that an @ is part of the path."""

_CREDENTIALS = frozenset({"username", "user", "password", "passwd", "secret", "token"})
"""URL parameters that redis-py and other clients take for credentials."""

_PLACE = re.compile(r"[A-Za-z0-9.-]+:\d{1,5}(/\d{1,3})?")
"""HOST:PORT and HOST:PORT/DB, which hold no secret and look as if HOST were the kind of a URL."""

TWO_WEEKS_S = 14 * 24 * 3600.0
LONGEST_S = 1e10
"""Three hundred years: Redis counts milliseconds since 1970, and refuses what 64 bits do not hold."""
LONGEST_CALL_MS = 24 * 3600 * 1000
"""A day: sockets refuse some thousand times as much."""


@final
class CacheConfig(Section):
    """How to reach the shared store, and what to do when it cannot be reached."""

    url: Name = Field(
        description="Where the store is: `redis://HOST:PORT/DB`, `unix:///PATH`, "
        "`redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB`, `redis+cluster://HOST:PORT,HOST:PORT` "
        "(`rediss` for TLS in each), `hbase://HOST:PORT/TABLE` (a Thrift gateway), `embedded:PATH` (a private server on this machine) or "
        "`memory://`. Without user or password."
    )
    namespace: Name = Field(
        description="Two namespaces never share an entry. Without it, a job uses `run.name`."
    )
    ttl_s: float = Field(
        default=TWO_WEEKS_S,
        gt=0,
        le=LONGEST_S,
        description="Seconds for which an entry is kept after it was written.",
    )
    budget_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Memory that the job's entries may take in the store. Where all rows would take "
        "more, a fixed part of them is kept, the same every night, instead of all of them "
        "for a short time. Without it, no limit.",
    )
    l1_bytes: int | None = Field(
        default=None,
        gt=0,
        description="Memory of each Python worker for entries that it has looked up or inserted, in "
        "front of the store. It comes out of the executor's memory overhead. Without it, a "
        "worker keeps no entries.",
    )
    cold: Name | None = Field(
        default=None,
        description="A folder for entries that the store has evicted or lost: `file:///PATH`, "
        "`s3://BUCKET/PATH`, `hdfs://NAMESERVICE/PATH` (`kvspark[hdfs]`, settings in `HADOOP_CONF_DIR`) or another URI "
        "that pyarrow reads, without user or password. It "
        "is read for keys that are missing in the store, and written in the background. "
        "`kvspark compact` merges its segments.",
    )
    timeout_ms: int = Field(
        default=250,
        gt=0,
        le=LONGEST_CALL_MS,
        description="Milliseconds that one call to the store may take. After that its rows are computed "
        "instead.",
    )
    overlap_bytes: int | None = Field(
        default=None,
        gt=0,
        description="For a fast model far from its store (1 ms and more): a thread of each Python worker inserts results, of so many bytes at "
        "most, while the next rows are computed, and looks up the rows of the next batch. What does not fit is inserted "
        "as without it. It comes out of the executor's memory overhead. With `l1_bytes`, `cold`, `embedded:`, `memory://` or "
        "HBase nothing is looked up ahead.",
    )
    lease_from_ms: float | None = Field(
        default=None,
        ge=0,
        description="For workers that lack the same rows at the same time: where a row takes so many milliseconds to compute, as measured, one worker "
        "computes it for all, by leases in Redis; nobody waits for longer than computing takes. `0`: for all rows; from `50` on what nobody else "
        "wants costs next to nothing. Each worker computes what it lacks without it.",
    )
    username: Name | None = Field(default=None, description="The user of the store's ACL.")
    password_env: Name | None = Field(
        default=None,
        description="The environment variable that holds the store's password, on driver and executors.",
    )
    password_file: Name | None = Field(
        default=None,
        description="The file that holds the store's password, on driver and executors.",
    )
    secret_env: Name | None = Field(
        default=None,
        description="The environment variable that holds the namespace's secret, with which keys are "
        "hashed. Without it and `secret_file`, the secret is derived from the namespace's "
        "name.",
    )
    secret_file: Name | None = Field(
        default=None, description="The file that holds the namespace's secret."
    )
    tenant: Name | None = Field(
        default=None,
        description="The owner of the rows: equal rows of two tenants never share an entry, in no "
        "namespace.",
    )
    subject: Name | None = Field(
        default=None,
        description="The column that says whose row it is, a text or a whole number. `kvspark purge "
        "--subject` then erases all entries of one subject, and equal rows of two subjects "
        "share no entry.",
    )
    sealed: bool | None = Field(
        default=None,
        description="Whether entries are encrypted (AES-256-GCM) before they leave the process. Without "
        "it, they are in every store but `embedded:` and `memory://`.",
    )
    sealing: SealingConfig = Field(
        default=SealingConfig(), description="Where the keys of sealed entries are."
    )
    tls_ca_file: Name | None = Field(
        default=None,
        description="The CA certificates (PEM) with which the store's certificate is checked. Without "
        "it, those of the system.",
    )
    required: bool = Field(
        default=False,
        description="Fail (exit code 69) when the store cannot be reached at the start, "
        "instead of computing everything.",
    )

    @field_validator("cold")
    @classmethod
    def _cold_without_secrets(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if not parts.scheme:
            raise ValueError("a URL starts with its kind; write for example file:///PATH")
        names = {key.lower() for key, _ in parse_qsl(parts.query)}
        if "@" in parts.netloc or (_CREDENTIALS | {"access_key", "secret_key"}) & names:
            raise ValueError(
                "a URL with credentials in it is refused, it would end up in logs; give them to "
                "the object store's client in its own way, the environment for example"
            )
        return url

    @field_validator("url")
    @classmethod
    def _url_without_secrets(cls, url: str) -> str:
        # The URL itself is never part of a message: it may hold the password that is refused here.
        try:
            parts = split_store_url(url)
            # Several hosts, as a cluster has them, are not one port.
            _ = parts.port if "," not in parts.netloc else None
        except ValueError:
            raise ValueError("this is not a URL; write for example redis://HOST:6379/0") from None
        if _PLACE.fullmatch(url):
            raise ValueError(f"a URL starts with its kind; write redis://{url}")
        if not parts.scheme:
            raise ValueError("a URL starts with its kind; write for example redis://HOST:6379/0")
        if parts.scheme not in SCHEMES:
            raise ValueError(f"{parts.scheme}: is no store; write {STORES}")
        if parts.scheme not in _LOCAL and not url[len(parts.scheme) :].startswith("://"):
            raise ValueError(f"two slashes are missing; write {parts.scheme}://...")
        query = {key.lower(): value.lower() for key, value in parse_qsl(parts.query)}
        has_user = "@" in url and parts.scheme not in _LOCAL
        if has_user or _CREDENTIALS & query.keys():
            raise ValueError(
                "a URL with a user or password in it is refused, it would end up in logs; "
                "name them with username and password_env or password_file"
            )
        if query.get("ssl_cert_reqs", "required") != "required" or _is_off(
            query.get("ssl_check_hostname", "true")
        ):
            raise ValueError(
                "TLS without checking the certificate is refused; name the CA with tls_ca_file"
            )
        return url

    @model_validator(mode="after")
    def _one_reference_each(self) -> Self:
        for secret in ("password", "secret"):
            if getattr(self, f"{secret}_env") and getattr(self, f"{secret}_file"):
                raise ValueError(f"{secret}_env and {secret}_file are both given; keep one")
        return self

    @property
    def is_sealed(self) -> bool:
        """True if entries are sealed: as `sealed` says, else where others can reach the store."""
        if self.sealed is not None:
            return self.sealed
        return self.cold is not None or split_store_url(self.url).scheme not in _LOCAL

    def password(self) -> bytes | None:
        """The store's password, read now; None if none is named.

        Raises:
            SecretError: as `resolve_secret`.
        """
        return resolve_secret(env=self.password_env, file=self.password_file)

    def secret(self) -> bytes | None:
        """The namespace's secret, read now; None if none is named.

        Raises:
            SecretError: as `resolve_secret`.
        """
        return resolve_secret(env=self.secret_env, file=self.secret_file)


def _is_off(word: str) -> bool:
    return word in {"false", "0", "no", "off", "none", ""}


def with_namespace(cache: Any, namespace: object) -> Any:
    """A conf's `cache` value with its URL under `url` and a namespace, ready to be checked.

    `cache: redis://HOST` is short for `cache: {url: redis://HOST}`.
    """
    if isinstance(cache, str):
        cache = {"url": cache}
    if isinstance(cache, dict) and "namespace" not in cache and namespace is not None:
        return {**cache, "namespace": namespace}
    return cache
