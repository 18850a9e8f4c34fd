"""The nodes of a cluster: which of them has a slot, a line to each, and who is left alone.

Commands go to all nodes before the first reply is read, and replies are read from whichever node
has one, so that a call takes as long as its slowest node. A node that is silent when half of the
time is over is given up once another has answered; after three times it is not asked for half a
minute (`Breaker`), so that a node that hangs costs its own share of the keys and little time.

redis-py's own RedisCluster is not used: with one of three nodes stopped each call took 2.8 to
4.9 s, whatever its time-outs were, because it tries ten times.
"""

from __future__ import annotations

import random
import select
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, final

from kvspark.errors import StoreError, StoreUnavailableError
from kvspark.store.breaker import Breaker
from kvspark.store.cluster.node import Node, Post, Posts, ready
from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis_error import store_error
from kvspark.store.resp.command import command
from kvspark.store.resp.connection import Line
from kvspark.store.resp.resp_connection import redirect
from kvspark.store.resp.slots import Address, owners
from kvspark.store.trouble import REFUSED, reason_of

REDIRECTS = 3
"""How often a command is sent on; more than two mean that the nodes disagree."""

REFRESH_S = 1.0
"""The least time between two looks at who has what."""

_CLUSTER_SLOTS = command(b"CLUSTER", b"SLOTS")
_ASKING = command(b"ASKING")

Answers: TypeAlias = "dict[Address, Any]"
"""What each node that was asked answered; its StoreError where it did not."""


@final
class Nodes:
    """The nodes of the cluster that `seeds` are some of; not safe between threads.

    `breakers` has the breaker of each that was met, and is shared by all connections of a process.
    """

    def __init__(self, seeds: Sequence[Endpoint], breakers: dict[Address, Breaker]) -> None:
        self._seeds = {Address(each.host, each.port): each for each in seeds}
        self._entry = seeds[0]
        self._breakers = breakers
        self._nodes: dict[Address, Node] = {}
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
        posts = self.posts(slots, commands)
        replies: list[Any] = [None] * len(commands)
        self._round(posts, replies, deadline)
        self.settle(posts, slots, commands, replies, deadline)
        return replies

    def posts(self, slots: Sequence[int], commands: Sequence[bytes]) -> Posts:
        """Which node is asked what, as far as we know."""
        posts: Posts = defaultdict(Post)
        owners = self._owners
        for place, slot in enumerate(slots):
            post = posts[owners[slot]]
            post.places.append(place)
            post.pieces.append(commands[place])
        return posts

    def settle(
        self,
        posts: Mapping[Address | None, Post],
        slots: Sequence[int],
        commands: Sequence[bytes],
        replies: list[Any],
        deadline: Deadline,
    ) -> None:
        """Asks elsewhere for what `replies` to `posts` say is elsewhere; other errors become StoreErrors."""
        for _ in range(REDIRECTS):
            posts = self._sent_on(posts, slots, commands, replies)
            if not posts:
                return
            self._round(posts, replies, deadline)
        for post in self._sent_on(posts, slots, commands, replies).values():
            for place in post.places:
                replies[place] = StoreUnavailableError(f"the nodes of {self._entry} disagree")

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
        return [self._node(each).line.endpoint for each in dict.fromkeys(self._owners) if each]

    def close(self) -> None:
        """Closes all lines; what is known about the nodes stays."""
        for node in self._nodes.values():
            node.line.close()

    def is_open(self, address: Address) -> bool:
        """True if the line to this node is open, as far as we know."""
        return self._node(address).line.is_open

    def homeless(self) -> StoreError:
        """The error of a slot that no node has."""
        return StoreUnavailableError(f"a slot of the cluster of {self._entry} has no node")

    # ------------------------------------------------------------ one round of commands

    def _round(
        self, posts: Mapping[Address | None, Post], replies: list[Any], deadline: Deadline
    ) -> None:
        answers = self._exchange({to: post for to, post in posts.items() if to}, deadline)
        for address, post in posts.items():
            answer = answers[address] if address else self.homeless()
            if isinstance(answer, StoreError):
                answer = [answer] * len(post.places)
            else:
                answer = post.own(answer)
            for place, reply in zip(post.places, answer, strict=True):
                replies[place] = reply

    def _sent_on(
        self,
        posts: Mapping[Address | None, Post],
        slots: Sequence[int],
        commands: Sequence[bytes],
        replies: list[Any],
    ) -> Posts:
        """What nodes said belongs elsewhere; all other error replies become StoreErrors."""
        onward: Posts = defaultdict(Post)
        for asked, post in posts.items():
            for place in post.places:
                reply = replies[place]
                if not isinstance(reply, Exception) or isinstance(reply, StoreError):
                    continue
                said = redirect(reply)
                if said is None or asked is None:
                    replies[place] = store_error(reply, self._entry)
                    continue
                address = Address(said.host or asked.host, said.port)
                there = onward[address]
                there.places.append(place)
                if said.is_for_good:
                    self._owners[slots[place]] = address
                    self._is_stale = True
                    there.pieces.append(commands[place])
                else:
                    there.asking.add(place)
                    there.pieces += (_ASKING, commands[place])
        return onward

    # ------------------------------------------------------------ all nodes at once

    def _exchange(self, posts: Mapping[Address, Post], deadline: Deadline) -> Answers:
        """What each node answered."""
        answers: Answers = {}
        try:
            self.send(posts, answers, deadline)
            for _ in self.collect(
                posts,
                answers,
                deadline,
                lambda to, line, until: line.read(posts[to].count, until),
            ):
                pass
        except BaseException:
            # What was not read would be taken for the answer to the next call.
            self.close()
            raise
        return answers

    def send(
        self,
        posts: Mapping[Address, Post],
        answers: Answers,
        deadline: Deadline,
        at_work: Collection[Address] = (),
    ) -> None:
        """Sends all nodes what they are asked; `answers` has those that could not be sent anything.

        `at_work`: nodes some of whose replies were not read yet.
        """
        # Who must be connected first comes last: it may hang, and the others work meanwhile.
        order = sorted(posts, key=lambda address: not self._node(address).line.is_open)
        for address in order:
            node = self._node(address)
            if not node.breaker.allows():
                answers[address] = node.told()
                # Its slots may be another's by now.
                self._is_stale = True
                continue
            # One that hangs leaves half of the time to the others, and to read their replies.
            until = deadline if len(order) == 1 else deadline.half()
            send = node.line.send_more if address in at_work else node.line.send
            try:
                send(b"".join(posts[address].pieces), until)
            except StoreError as exc:
                answers[address] = self._failed(node, exc)

    def collect(
        self,
        posts: Mapping[Address, Post],
        answers: Answers,
        deadline: Deadline,
        read: Callable[[Address, Line, Deadline], object],
    ) -> Iterator[Address]:
        """Adds to `answers` what `read` gives of each node that was sent its post; yields who has answered, at once."""
        waiting = {address: self._node(address) for address in posts if address not in answers}
        half_time = deadline.half()
        poll = select.poll()
        for node in waiting.values():
            poll.register(node.line.fileno(), select.POLLIN)
        has_answered = False
        while waiting:
            found = ready(poll, waiting, half_time if has_answered else deadline)
            if not found:
                for address, node in waiting.items():
                    node.line.close()
                    answers[address] = self._failed(node, node.silent())
                return
            for address in found:
                node = waiting.pop(address)
                poll.unregister(node.line.fileno())
                # One that sends a byte at a time leaves half of the time to the others.
                until = deadline.half() if waiting else deadline
                try:
                    answers[address] = read(address, node.line, until)
                except StoreError as exc:
                    answers[address] = self._failed(node, exc)
                else:
                    node.breaker.succeeded()
                    has_answered = True
                    yield address

    def _failed(self, node: Node, exc: StoreError) -> StoreError:
        reason = reason_of(exc)
        if reason == REFUSED:
            node.breaker.trip(reason, for_good=True)
        else:
            node.breaker.failed(reason)
        self._is_stale = True
        return exc

    # ------------------------------------------------------------ who has what

    def refresh(self, deadline: Deadline) -> None:
        """Looks who has what, if that is not known; asks nodes, so that nobody's reply may be on its way.

        Raises:
            StoreError: no node says it.
        """
        now = time.monotonic()
        if self._owners and (not self._is_stale or now < self._not_before):
            return
        self._not_before = now + REFRESH_S
        try:
            self._owners = self._learned(deadline)
        except StoreError:
            # With what was known some of the nodes can still be asked.
            if not self._owners:
                raise
        self._is_stale = False
        known = {*self._owners}
        for address in [each for each in self._nodes if each not in known]:
            self._nodes.pop(address).line.close()

    def _learned(self, deadline: Deadline) -> list[Address | None]:
        candidates = [*dict.fromkeys([*self._nodes, *self._seeds])]
        # Not all workers ask the same node, and a line that is open costs nothing.
        random.shuffle(candidates)
        candidates.sort(key=lambda address: not self._node(address).line.is_open)
        trouble: StoreError | None = None
        for number, address in enumerate(candidates):
            node = self._node(address)
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
                trouble = self._failed(node, exc)
            else:
                node.breaker.succeeded()
                if any(found):
                    return found
                trouble = StoreUnavailableError(f"{node.line.endpoint} knows no node with slots")
        raise trouble or StoreUnavailableError(f"{self._entry} has no nodes")

    def _node(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            endpoint = replace(self._entry, host=address.host, port=address.port)
            breaker = self._breakers.setdefault(address, Breaker())
            node = self._nodes[address] = Node(Line(endpoint), breaker)
        return node
