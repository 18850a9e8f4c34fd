"""A primary, a replica and sentinels for tests: `with running_sentinels() as service: ...`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import final

from tests.redis_cluster import wait_until
from tests.redis_server import RedisAddress, running_redis

SERVICE = "kvspark"


@final
@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """Where the sentinels are, and the servers that they watch over."""

    sentinels: tuple[RedisAddress, ...]
    primary: RedisAddress
    """The one of the start."""
    replica: RedisAddress

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    def primary_port(self) -> int:
        """Where the first sentinel says that the primary is."""
        said = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(said.split(b"\r\n")[4])


@contextmanager
def running_sentinels(*, sentinels: int = 2) -> Iterator[SentinelAddress]:
    """Servers with nothing in them, gone at the end."""
    with ExitStack() as stack:
        primary = stack.enter_context(running_redis())
        follow = ["--replicaof", "127.0.0.1", str(primary.port)]
        replica = stack.enter_context(running_redis(*follow))
        wait_until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
        text = f"""
            sentinel monitor {SERVICE} 127.0.0.1 {primary.port} 1
            sentinel down-after-milliseconds {SERVICE} 500
            sentinel failover-timeout {SERVICE} 2000
        """
        started = [
            stack.enter_context(running_redis("--sentinel", conf=text)) for _ in range(sentinels)
        ]
        for each in started:
            wait_until(lambda: b",slaves=1," in each.ask("INFO", "sentinel"))  # noqa: B023 - called here
        yield SentinelAddress(tuple(started), primary, replica)
