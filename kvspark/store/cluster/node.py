"""One node of a cluster: the line to it, whether it is left alone, and what it is asked."""

from __future__ import annotations

import select
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from kvspark.errors import StoreError, StoreRefusedError, StoreUnavailableError
from kvspark.store.breaker import Breaker
from kvspark.store.deadline import Deadline
from kvspark.store.resp.connection import Line
from kvspark.store.resp.slots import Address
from kvspark.store.trouble import REFUSED


@final
@dataclass(slots=True)
class Node:
    """Where its commands go."""

    line: Line
    breaker: Breaker
    """Of all connections of the process to it; what two threads count at once counts once or twice."""

    def silent(self) -> StoreError:
        """The error of one that did not answer in time."""
        error = StoreUnavailableError(f"{self.line.endpoint} did not answer in time")
        error.__cause__ = TimeoutError()
        return error

    def told(self) -> StoreError:
        """The error of one that is not asked."""
        said = f"{self.line.endpoint} is left alone for now ({self.breaker.reason})"
        if self.breaker.reason == REFUSED:
            return StoreRefusedError(said)
        return StoreUnavailableError(said)


@final
@dataclass(slots=True)
class Post:
    """What one node is asked in one round."""

    places: list[int] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    asking: set[int] = field(default_factory=set)
    """Places whose command has an ASKING before it, and whose reply has its reply before it."""

    @property
    def count(self) -> int:
        """How many replies there will be."""
        return len(self.places) + len(self.asking)

    def own(self, replies: list[Any]) -> list[Any]:
        """One of `replies` a place."""
        if not self.asking:
            return replies
        rest = iter(replies)
        return [
            next(rest) if place not in self.asking else (next(rest), next(rest))[1]
            for place in self.places
        ]


Posts: TypeAlias = "defaultdict[Address | None, Post]"
"""What each node is asked; under None what no node has."""


def ready(poll: select.poll, waiting: Mapping[Address, Node], deadline: Deadline) -> list[Address]:
    """Those of `waiting` that have something to read, or had and kept it; none if none has before `deadline`."""
    begun = [address for address, node in waiting.items() if node.line.has_more]
    if begun:
        return begun
    numbers = {number for number, _ in poll.poll(deadline.left_s() * 1_000)}
    return [address for address, node in waiting.items() if node.line.fileno() in numbers]
