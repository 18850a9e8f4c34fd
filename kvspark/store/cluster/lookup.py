"""One look-up of many windows on a cluster: its nodes are at work while the values of one are taken.

All nodes are asked for a window at once, and for the next one before the first of them was read. A node
that was lost is not asked again in the same look-up. Where keys have moved, all that is on its way is
read before they are asked for elsewhere: a line answers in the order of its commands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from typing import Any, final

import numpy as np
import numpy.typing as npt

from kvspark.errors import StoreError, StoreUnavailableError
from kvspark.store.base import Keys, Parts
from kvspark.store.cluster.node import Post, Posts
from kvspark.store.cluster.nodes import Answers, Nodes
from kvspark.store.deadline import Deadline
from kvspark.store.resp.connection import Line
from kvspark.store.resp.mget_by_tag import Gets, gets
from kvspark.store.resp.mget_readers import EvenReplies
from kvspark.store.resp.slots import Address
from kvspark.store.trouble import worst
from kvspark.store.value_table import Scattered, Slab

AHEAD = 2
"""Windows that were asked for and not taken yet."""

WINDOW_KEYS = 1_024
WINDOW_BYTES = 2 * 2**20
"""Windows are joined to so many keys, because each is parted among nodes and hash tags again, and read
without parsing them; where those would be more bytes than this, there is less to gain than it takes."""


@final
@dataclass(slots=True)
class _Asked:
    """A window on its way."""

    gets: Gets
    posts: Posts
    answers: Answers
    """Of the nodes that have answered, or will not."""
    first: int
    """The place of its first key among all of the look-up."""
    taken: set[Address] = field(default_factory=set)
    """Nodes whose values were taken as soon as they had come."""

    @property
    def homes(self) -> dict[Address, Post]:
        """What each node is asked."""
        return {address: post for address, post in self.posts.items() if address is not None}

    def at_work(self) -> set[Address]:
        """The nodes whose answer is to be read."""
        return {address for address in self.homes if address not in self.answers}

    def counts(self, address: Address) -> list[int]:
        """How many keys each command has that this node was sent."""
        return [self.gets.counts[place] for place in self.posts[address].places]

    def places(self, address: Address) -> npt.NDArray[np.intp]:
        """Of the keys that this node was asked for, among those of the window."""
        starts = [0, *accumulate(self.gets.counts)]
        commands = self.posts[address].places
        return np.concatenate(
            [self.gets.places[starts[each] : starts[each + 1]] for each in commands]
        )


@final
class ClusterLookup:
    """Looks up windows on `nodes`, which are the caller's until it is over.

    `place` is what errors call the cluster; `value_bytes` and `deadline` as for `Store.read`.
    """

    def __init__(
        self,
        nodes: Nodes,
        place: str,
        value_bytes: int,
        deadline: Deadline,
    ) -> None:
        self._nodes = nodes
        self._place = place
        self._value_bytes = value_bytes
        self._are_small = value_bytes * WINDOW_KEYS <= WINDOW_BYTES
        self._deadline = deadline
        self._has_answers = False
        self.failures: list[StoreError] = []
        """In the place of replies so far."""
        self._ahead: deque[_Asked] = deque()
        self._count = 0
        """Keys that were asked for."""
        self._lost: dict[Address, StoreError] = {}

    def run(self, windows: Iterable[Keys]) -> Parts:
        """As `Store.read`."""
        rest = _joined(windows) if self._are_small else iter(windows)
        try:
            self._ask([*islice(rest, AHEAD)])
            while self._ahead:
                asked = self._ahead.popleft()
                for address in self._collect(asked):
                    answer = asked.answers[address]
                    if isinstance(answer, EvenReplies):
                        self._has_answers = True
                        asked.taken.add(address)
                        places = asked.first + asked.places(address)
                        yield Scattered(Slab(answer.table()), places)
                part = self._listed(asked)
                self._ask([*islice(rest, 1)])
                if part:
                    yield part
        except BaseException:
            # What is still to come would be taken for the answer to the next call.
            self._nodes.close()
            raise
        if self.failures and not self._has_answers:
            raise worst(self.failures)

    def _ask(self, windows: Sequence[Sequence[bytes]]) -> None:
        """Sends each node what it is asked of all `windows`; in one write, as `RedisStore.read` does."""
        if not windows:
            return
        at_work = {address for each in self._ahead for address in each.at_work()}
        if not at_work:
            self._nodes.refresh(self._deadline)
        fresh: list[_Asked] = []
        together: dict[Address, Post] = {}
        for window in windows:
            asked = gets(window)
            posts = self._nodes.posts(asked.slots, asked.commands)
            lost = {address: self._lost[address] for address in posts if address in self._lost}
            fresh.append(_Asked(asked, posts, lost, self._count))
            self._count += len(window)
            for address in fresh[-1].at_work():
                together.setdefault(address, Post()).pieces += posts[address].pieces
        self._ahead += fresh
        failed: Answers = {}
        self._nodes.send(together, failed, self._deadline, at_work)
        for each in fresh:
            each.answers.update({to: failed[to] for to in each.at_work() if to in failed})
        self._lose(failed)

    def _collect(self, asked: _Asked) -> Iterator[Address]:
        """Reads what all nodes answer to `asked`, the oldest window that was not read; yields who has, at once."""
        waiting = [*asked.at_work()]
        if not waiting:
            return
        busy = {address for each in self._ahead for address in each.at_work() if each is not asked}
        # Worked out before anything is waited for.
        shares = {
            address: EvenReplies(asked.counts(address), self._value_bytes)
            for address in waiting
            if self._are_small
        }

        def read(address: Address, line: Line, until: Deadline) -> object:
            count, is_last = len(asked.posts[address].places), address not in busy
            if not self._are_small:
                return line.read(count, until, is_last=is_last)
            return line.read_evenly(shares[address], count, until, is_last=is_last)

        yield from self._nodes.collect(asked.homes, asked.answers, self._deadline, read)
        self._lose(asked.answers)

    def _lose(self, answers: Answers) -> None:
        """Of a node whose line was closed nothing more will come."""
        for address, answer in answers.items():
            if isinstance(answer, StoreError) and not self._nodes.is_open(address):
                self._lost[address] = answer
                for other in self._ahead:
                    if address in other.homes:
                        other.answers.setdefault(address, answer)

    def _listed(self, asked: _Asked) -> list[bytes | None]:
        """The values that were not taken, one by one; what a node did not answer with values is settled first."""
        if len(asked.taken) == len(asked.posts):
            return []
        replies: list[Any] = [[None] * count for count in asked.gets.counts]
        for address, post in asked.posts.items():
            if address in asked.taken:
                continue
            answer = self._nodes.homeless() if address is None else asked.answers[address]
            if isinstance(answer, StoreError):
                answer = [answer] * len(post.places)
            elif isinstance(answer, EvenReplies) and address is not None:
                answer = answer.values(asked.counts(address))
            for place, reply in zip(post.places, answer, strict=True):
                replies[place] = reply
        if any(isinstance(reply, Exception) for reply in replies):
            self._settle(asked, replies)
        failures = [reply for reply in replies if isinstance(reply, StoreError)]
        self.failures += failures
        self._has_answers |= len(failures) < len(replies)
        values = values_of(asked.gets, replies, self._place)
        taken = {row for address in asked.taken for row in asked.places(address).tolist()}
        return [value for row, value in enumerate(values) if row not in taken]

    def _settle(self, asked: _Asked, replies: list[Any]) -> None:
        """Asks for keys that have moved where they are, when nothing else is on its way."""
        for other in self._ahead:
            for _ in self._collect(other):
                pass
        self._nodes.settle(
            asked.posts, asked.gets.slots, asked.gets.commands, replies, self._deadline
        )


def _joined(windows: Iterable[Sequence[bytes]]) -> Iterator[Sequence[bytes]]:
    """The keys of `windows` in larger ones."""
    held: list[bytes] = []
    for window in windows:
        if held and len(held) + len(window) > WINDOW_KEYS:
            yield held
            held = []
        held += window
    if held:
        yield held


def values_of(asked: Gets, replies: Sequence[Any], place: str) -> list[bytes | None]:
    """The values of all keys in their own order; None for those whose reply is a StoreError.

    Raises:
        StoreUnavailableError: a reply is something else, or has another number of values.
    """
    values: list[bytes | None] = [None] * len(asked.places)
    at, places = 0, asked.places.tolist()
    for count, reply in zip(asked.counts, replies, strict=True):
        if isinstance(reply, list) and len(reply) == count:
            for row, value in zip(places[at : at + count], reply, strict=True):
                values[row] = value
        elif not isinstance(reply, StoreError):
            raise StoreUnavailableError(
                f"{place} answered {count} keys with another number of values"
            )
        at += count
    return values
