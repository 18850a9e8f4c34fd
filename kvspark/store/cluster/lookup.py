"""One look-up of many windows on a cluster: its nodes are at work while the values of one are taken.

All nodes are asked for a window at once, and for the next one before the first of them was read. A node
that was lost is not asked again in the same look-up. Keys that have moved are asked for elsewhere at the
end, when nothing else is on its way: a line answers in the order of its commands.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Any, final

import numpy as np
import numpy.typing as npt

from kvspark.errors import StoreError, StoreUnavailableError
from kvspark.store.base import Keys, Parts
from kvspark.store.cluster.router import Commands, Router
from kvspark.store.deadline import Deadline
from kvspark.store.resp.connection import Line
from kvspark.store.resp.mget_by_tag import Gets, gets
from kvspark.store.resp.mget_reader import EvenReplies
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
class _Window:
    """Keys on their way."""

    gets: Gets
    starts: list[int]
    """Of the keys of each command, among `gets.places`."""
    first: int
    """The place of its first key among all of the look-up."""
    shares: dict[Address | None, list[int]]
    """Of each node, its commands."""
    waiting: set[Address]
    """The nodes whose answer is to be read, ..."""
    failed: dict[Address | None, StoreError]
    """... and those that will not answer."""

    def counts(self, address: Address | None) -> tuple[int, ...]:
        """How many keys each command of this node has."""
        return tuple([self.gets.counts[command] for command in self.shares[address]])

    def places(self, commands: Iterable[int]) -> npt.NDArray[np.intp]:
        """Of the keys of these commands, among all of the look-up."""
        starts = self.starts
        some = [self.gets.places[starts[each] : starts[each + 1]] for each in commands]
        return self.first + np.concatenate(some) if some else np.empty(0, np.intp)


@final
@dataclass(frozen=True, slots=True)
class _Odd:
    """A reply that is an error: keys that have moved, or something that cannot be helped."""

    asked: Address
    slot: int
    command: bytes
    reply: Exception
    places: npt.NDArray[np.intp]


@final
class ClusterLookup:
    """Looks up windows over `router`, which is the caller's until it is over.

    `place` is what errors call the cluster; `value_bytes` and `deadline` as for `Store.read`.
    """

    def __init__(self, router: Router, place: str, value_bytes: int, deadline: Deadline) -> None:
        self._router = router
        self._place = place
        self._value_bytes = value_bytes
        self._are_small = value_bytes * WINDOW_KEYS <= WINDOW_BYTES
        self._deadline = deadline
        self._has_answers = False
        self.failures: list[StoreError] = []
        """In the place of answers so far."""
        self._ahead: deque[_Window] = deque()
        self._count = 0
        """Keys that were asked for."""
        self._lost: dict[Address, StoreError] = {}
        self._odd: list[_Odd] = []

    def run(self, windows: Iterable[Keys]) -> Parts:
        """As `Store.read`."""
        rest = _joined(windows) if self._are_small else iter(windows)
        try:
            self._ask([*islice(rest, AHEAD)])
            while self._ahead:
                for part in self._taken(self._ahead[0]):
                    if len(part):
                        yield part
                self._ahead.popleft()
                self._ask([*islice(rest, 1)])
            if self._odd:
                yield self._settled()
        except BaseException:
            # What is still to come would be taken for the answer to the next call.
            self._router.nodes.close()
            raise
        if self.failures and not self._has_answers:
            raise worst(self.failures)

    def _ask(self, windows: Sequence[Keys]) -> None:
        """Sends each node what it is asked of all `windows`; in one write, as `RedisStore.read` does."""
        if not windows:
            return
        at_work = {address for each in self._ahead for address in each.waiting}
        if not at_work:
            self._router.refresh(self._deadline)
        pieces: defaultdict[Address, list[bytes]] = defaultdict(list)
        for keys in windows:
            asked = gets(keys)
            starts = [0, *accumulate(asked.counts)]
            shares = self._router.shares(asked.slots)
            window = _Window(asked, starts, self._count, shares, set(), {})
            self._ahead.append(window)
            self._count += len(keys)
            for address, commands in shares.items():
                if address is None:
                    window.failed[address] = self._router.homeless()
                elif address in self._lost:
                    window.failed[address] = self._lost[address]
                else:
                    window.waiting.add(address)
                    pieces[address] += [asked.commands[each] for each in commands]
        sent = {address: b"".join(some) for address, some in pieces.items()}
        for address, error in self._router.nodes.send(sent, self._deadline, at_work).items():
            self._lose(address, error)

    def _taken(self, window: _Window) -> Iterator[Scattered]:
        """What all nodes answer to the oldest window, at once."""
        # Worked out before anything is waited for.
        expected = {
            address: EvenReplies(window.counts(address), self._value_bytes)
            for address in window.waiting
            if self._value_bytes and self._are_small
        }
        behind = [*islice(self._ahead, 1, None)]

        def read(address: Address, line: Line, until: Deadline) -> Slab | list[Any]:
            is_last = not any(address in each.waiting for each in behind)
            if address in expected:
                return line.read_part(expected.pop(address), until, is_last=is_last)
            return line.read(len(window.shares[address]), until, is_last=is_last)

        for lost, error in window.failed.items():
            yield self._missing(window.places(window.shares[lost]), error)
        for address, answer in self._router.nodes.collect(window.waiting, self._deadline, read):
            if isinstance(answer, StoreError):
                self._lose(address, answer)
                yield self._missing(window.places(window.shares[address]), answer)
            elif isinstance(answer, Slab):
                self._has_answers = True
                yield Scattered(answer, window.places(window.shares[address]))
            else:
                yield self._listed(window, address, answer)
            del answer  # the next one comes into its memory

    def _lose(self, address: Address, error: StoreError) -> None:
        """Of a node that has failed nothing more will come."""
        self._lost[address] = error
        for window in self._ahead:
            if address in window.waiting:
                window.waiting.discard(address)
                window.failed[address] = error

    def _missing(self, places: npt.NDArray[np.intp], error: StoreError) -> Scattered:
        self.failures.append(error)
        return Scattered([None] * len(places), places)

    def _listed(self, window: _Window, address: Address, replies: Sequence[Any]) -> Scattered:
        """The values that a node has answered with; its errors are kept."""
        values: list[bytes | None] = []
        right: list[int] = []
        for each, reply in zip(window.shares[address], replies, strict=True):
            if isinstance(reply, Exception):
                slot, command = window.gets.slots[each], window.gets.commands[each]
                self._odd.append(_Odd(address, slot, command, reply, window.places([each])))
            else:
                values += self._counted(reply, window.gets.counts[each])
                right.append(each)
        return Scattered(values, window.places(right))

    def _settled(self) -> Scattered:
        """The values of keys that have moved, from where they are."""
        asked: Commands = defaultdict(list)
        for number, odd in enumerate(self._odd):
            asked[odd.asked].append((number, odd.command))
        replies: list[Any] = [odd.reply for odd in self._odd]
        self._router.settle(asked, [odd.slot for odd in self._odd], replies, self._deadline)
        values: list[bytes | None] = []
        for odd, reply in zip(self._odd, replies, strict=True):
            if isinstance(reply, StoreError):
                self.failures.append(reply)
                values += [None] * len(odd.places)
            else:
                values += self._counted(reply, len(odd.places))
        return Scattered(values, np.concatenate([odd.places for odd in self._odd]))

    def _counted(self, reply: Any, count: int) -> list[bytes | None]:
        """`reply` if it has so many values.

        Raises:
            StoreUnavailableError: it has not.
        """
        if isinstance(reply, list) and len(reply) == count:
            self._has_answers = True
            return reply
        said = f"{self._place} answered {count} keys with another number of values"
        raise StoreUnavailableError(said)


def _joined(windows: Iterable[Keys]) -> Iterator[Keys]:
    """The keys of `windows` in larger ones."""
    held: list[bytes] = []
    for window in windows:
        if held and len(held) + len(window) > WINDOW_KEYS:
            yield held
            held = []
        held += window
    if held:
        yield held
