"""Who has which slot of a cluster, and commands that go there: the router.

redis-py's own RedisCluster is not used: with one of three nodes stopped each call took 2.8 to
4.9 s, whatever its time-outs were, because it tries ten times.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeAlias, final

from kvspark.errors import StoreError, StoreUnavailableError
from kvspark.store.breaker import Breaker
from kvspark.store.cluster.nodes import Nodes
from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis_error import store_error
from kvspark.store.resp.command import command
from kvspark.store.resp.resp_connection import redirect
from kvspark.store.resp.slots import Address, owners

REDIRECTS = 3
"""How often a command is sent on; more than two mean that the nodes disagree."""

REFRESH_S = 1.0
"""The least time between two looks at who has what."""

_CLUSTER_SLOTS = command(b"CLUSTER", b"SLOTS")
_ASKING = (-1, command(b"ASKING"))

Commands: TypeAlias = "defaultdict[Address | None, list[tuple[int, bytes]]]"
"""What each node is asked, under None what no node has: commands, and the places of their replies."""


@final
class Router:
    """The cluster that `seeds` are some nodes of; not safe between threads.

    `breakers`: as for `Nodes`.
    """

    def __init__(self, seeds: Sequence[Endpoint], breakers: dict[Address, Breaker]) -> None:
        self._seeds = [Address(each.host, each.port) for each in seeds]
        self._entry = seeds[0]
        self.nodes = Nodes(seeds[0], breakers)
        self._owners: list[Address | None] = []
        self._is_stale = True
        self._not_before = 0.0

    def ask(self, slots: Sequence[int], commands: Sequence[bytes], deadline: Deadline) -> list[Any]:
        """A reply to each of `commands`, which is about keys of the slot beside it.

        In the place of one that could not be had is a StoreError.

        Raises:
            StoreError: no node says who has what.
        """
        self.refresh(deadline)
        asked: Commands = defaultdict(list)
        for address, places in self.shares(slots).items():
            asked[address] = [(place, commands[place]) for place in places]
        replies: list[Any] = [None] * len(commands)
        self._exchange(asked, replies, deadline)
        self.settle(asked, slots, replies, deadline)
        return replies

    def settle(
        self, asked: Commands, slots: Sequence[int], replies: list[Any], deadline: Deadline
    ) -> None:
        """Asks elsewhere for what `replies` say is elsewhere; other errors become StoreErrors."""
        for _ in range(REDIRECTS):
            asked = self._sent_on(asked, slots, replies)
            if not asked:
                return
            self._exchange(asked, replies, deadline)
        for commands in self._sent_on(asked, slots, replies).values():
            for place, _ in commands:
                if place >= 0:
                    replies[place] = StoreUnavailableError(f"the nodes of {self._entry} disagree")

    def shares(self, slots: Sequence[int]) -> dict[Address | None, list[int]]:
        """The places of those of `slots` that each node has, as far as we know."""
        shares: defaultdict[Address | None, list[int]] = defaultdict(list)
        owners = self._owners
        for place, slot in enumerate(slots):
            shares[owners[slot]].append(place)
        return shares

    def primaries(self, deadline: Deadline) -> list[int]:
        """One slot of each node that has any.

        Raises:
            StoreError: no node says who has what.
        """
        self.refresh(deadline)
        return list({owner: slot for slot, owner in enumerate(self._owners) if owner}.values())

    def endpoints(self, deadline: Deadline) -> list[Endpoint]:
        """The nodes that have slots.

        Raises:
            StoreError: no node says who has what.
        """
        self.refresh(deadline)
        return [self.nodes[each].line.endpoint for each in dict.fromkeys(self._owners) if each]

    def homeless(self) -> StoreError:
        """The error of a slot that no node has."""
        return StoreUnavailableError(f"a slot of the cluster of {self._entry} has no node")

    def refresh(self, deadline: Deadline) -> None:
        """Looks who has what, if that is not known; asks nodes, so that nobody's reply may be on its way.

        Raises:
            StoreError: no node says it.
        """
        now = time.monotonic()
        is_stale = self._is_stale or self.nodes.have_failed
        if self._owners and (not is_stale or now < self._not_before):
            return
        self._not_before = now + REFRESH_S
        try:
            self._owners = self._learned(deadline)
        except StoreError:
            # With what was known some of the nodes can still be asked.
            if not self._owners:
                raise
        self._is_stale = self.nodes.have_failed = False
        self.nodes.keep({*self._owners})

    def _learned(self, deadline: Deadline) -> list[Address | None]:
        candidates = [*dict.fromkeys([*self.nodes, *self._seeds])]
        # Not all workers ask the same node, and a line that is open costs nothing.
        random.shuffle(candidates)
        candidates.sort(key=lambda address: not self.nodes[address].line.is_open)
        trouble: StoreError | None = None
        for number, address in enumerate(candidates):
            node = self.nodes[address]
            if not node.breaker.allows():
                trouble = trouble or node.told()
                continue
            until = deadline.half() if number < len(candidates) - 1 else deadline
            try:
                (reply,) = node.line.exchange(_CLUSTER_SLOTS, 1, until)
                if isinstance(reply, Exception):
                    raise store_error(reply, node.line.endpoint)
                found = owners(reply, address)
            except (ValueError, TypeError, IndexError):
                node.line.close()
                trouble = StoreUnavailableError(f"{node.line.endpoint} is no node of a cluster")
            except StoreError as exc:
                trouble = self.nodes.failed(node, exc)
            else:
                node.breaker.succeeded()
                if any(found):
                    return found
                trouble = StoreUnavailableError(f"{node.line.endpoint} knows no node with slots")
        raise trouble or StoreUnavailableError(f"{self._entry} has no nodes")

    def _exchange(self, asked: Commands, replies: list[Any], deadline: Deadline) -> None:
        """Puts the reply to each command, or a StoreError, at its place of `replies`."""
        payloads = {to: b"".join([one for _, one in each]) for to, each in asked.items() if to}
        try:
            failed = self.nodes.send(payloads, deadline)
            collected = self.nodes.collect(
                payloads.keys() - failed.keys(),
                deadline,
                lambda to, line, until: line.read(len(asked[to]), until),
            )
            answers: dict[Address, Any] = {**failed, **dict(collected)}
        except BaseException:
            # What was not read would be taken for the answer to the next call.
            self.nodes.close()
            raise
        for to, commands in asked.items():
            answer = answers[to] if to else self.homeless()
            told = [answer] * len(commands) if isinstance(answer, StoreError) else answer
            for (place, _), reply in zip(commands, told, strict=True):
                if place >= 0:
                    replies[place] = reply

    def _sent_on(self, asked: Commands, slots: Sequence[int], replies: list[Any]) -> Commands:
        """What nodes said belongs elsewhere; all other error replies become StoreErrors."""
        onward: Commands = defaultdict(list)
        for address, commands in asked.items():
            for place, payload in commands:
                reply = replies[place]
                if place < 0 or not isinstance(reply, Exception) or isinstance(reply, StoreError):
                    continue
                said = redirect(reply)
                if said is None or address is None:
                    replies[place] = store_error(reply, self._entry)
                    continue
                there = Address(said.host or address.host, said.port)
                if said.is_for_good:
                    self._owners[slots[place]] = there
                    self._is_stale = True
                else:
                    onward[there].append(_ASKING)
                onward[there].append((place, payload))
        return onward
