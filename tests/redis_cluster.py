"""A private Redis Cluster for tests: `with running_cluster() as cluster: ... cluster.url`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import final

from tests.redis_server import RedisAddress, running_redis

SLOTS = 16_384
START_S = 30.0


@final
@dataclass(frozen=True, slots=True)
class ClusterAddress:
    """Where the nodes of a running cluster are; the primaries come first."""

    nodes: tuple[RedisAddress, ...]
    primaries: int

    @property
    def url(self) -> str:
        """Names all primaries."""
        scheme = self.nodes[0].url.partition(":")[0]
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[: self.primaries])
        return f"{scheme}+cluster://{hosts}"

    def owner(self, slot: int) -> int:
        """The place among the nodes of the one that had `slot` at the start."""
        return slot * self.primaries // SLOTS

    def move(self, slot: int, source: int, target: int) -> None:
        """Gives a slot without keys to another node; all nodes know it when this returns."""
        name = node_id(self.nodes[target])
        for node in (self.nodes[target], self.nodes[source], *self.nodes):
            assert node.ask("CLUSTER", "SETSLOT", str(slot), "NODE", name) == b"+OK\r\n"


def node_id(node: RedisAddress) -> str:
    """The name of a node in its cluster."""
    return node.ask("CLUSTER", "MYID").split(b"\r\n")[1].decode()


def wait_until(is_so: Callable[[], bool], *, seconds: float = START_S) -> None:
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.05)


@contextmanager
def running_cluster(
    primaries: int = 3,
    *options: str,
    replicas: int = 0,
    binary: str | None = None,
    with_tls: bool = False,
) -> Iterator[ClusterAddress]:
    """A cluster with nothing in it, gone at the end; the first `replicas` nodes have a replica."""
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(
                running_redis(
                    "--cluster-enabled",
                    "yes",
                    "--cluster-node-timeout",
                    "1500",
                    "--cluster-require-full-coverage",
                    "no",
                    *options,
                    binary=binary,
                    with_tls=with_tls,
                )
            )
            for _ in range(primaries + replicas)
        ]
        cluster = ClusterAddress(tuple(nodes), primaries)
        for place, node in enumerate(nodes[:primaries]):
            slots = [str(slot) for slot in range(SLOTS) if cluster.owner(slot) == place]
            assert node.ask("CLUSTER", "ADDSLOTS", *slots) == b"+OK\r\n"
            # So that no two of them claim the same epoch and have to agree first.
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(place + 1))
        for node in nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", str(nodes[0].port))
        wait_until(lambda: all(_knows(node, len(nodes)) for node in nodes))
        for place, node in enumerate(nodes[primaries:]):
            primary = node_id(nodes[place])
            wait_until(lambda: node.ask("CLUSTER", "REPLICATE", primary) == b"+OK\r\n")  # noqa: B023 - called here
            wait_until(lambda: b"master_link_status:up" in node.ask("INFO", "replication"))  # noqa: B023 - called here
        wait_until(lambda: all(_is_ok(node, primaries) for node in nodes))
        yield cluster


def _knows(node: RedisAddress, others: int) -> bool:
    said = node.ask("CLUSTER", "INFO")
    return b"cluster_known_nodes:%d\r" % others in said


def _is_ok(node: RedisAddress, primaries: int) -> bool:
    said = node.ask("CLUSTER", "INFO")
    return b"cluster_state:ok" in said and b"cluster_size:%d\r" % primaries in said
