"""The nodes of a cluster: a line to each, and who is left alone.

Commands go to all nodes before the first reply is read, and replies are read from whichever node
has one, so that a call takes as long as its slowest node. A node that is silent when half of the
time is over is given up once another has answered; after three times it is not asked for half a
minute (`Breaker`), so that a node that hangs costs its own share of the keys and little time.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar, final

from kvspark.errors import StoreError, StoreRefusedError, StoreUnavailableError
from kvspark.store.breaker import Breaker
from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.resp.connection import Line
from kvspark.store.resp.slots import Address
from kvspark.store.trouble import REFUSED, reason_of

T = TypeVar("T")


@final
@dataclass(slots=True)
class Node:
    """Where its commands go."""

    line: Line
    breaker: Breaker
    """Of all connections of the process to it; what two threads count at once counts once or twice."""

    def told(self) -> StoreError:
        """The error of one that is not asked."""
        said = f"{self.line.endpoint} is left alone for now ({self.breaker.reason})"
        is_refused = self.breaker.reason == REFUSED
        return StoreRefusedError(said) if is_refused else StoreUnavailableError(said)


@final
class Nodes:
    """The nodes that are entered as `entry` is; not safe between threads.

    `breakers` has the breaker of each that was met, and is shared by all connections of a process.
    """

    def __init__(self, entry: Endpoint, breakers: dict[Address, Breaker]) -> None:
        self._entry = entry
        self._breakers = breakers
        self._nodes: dict[Address, Node] = {}
        self.have_failed = False
        """True once a node did not answer, so that its slots may be another's; whoever looks sets it back."""

    def __getitem__(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            endpoint = replace(self._entry, host=address.host, port=address.port)
            breaker = self._breakers.setdefault(address, Breaker())
            node = self._nodes[address] = Node(Line(endpoint), breaker)
        return node

    def __iter__(self) -> Iterator[Address]:
        return iter(self._nodes)

    def keep(self, known: Collection[Address | None]) -> None:
        """Forgets all nodes but those that are `known`."""
        for address in [each for each in self._nodes if each not in known]:
            self._nodes.pop(address).line.close()

    def close(self) -> None:
        """Closes all lines; what is known about the nodes stays."""
        for node in self._nodes.values():
            node.line.close()

    def send(
        self,
        payloads: Mapping[Address, bytes],
        deadline: Deadline,
        at_work: Collection[Address] = (),
    ) -> dict[Address, StoreError]:
        """Sends all nodes what they are asked; returns those that could not be sent anything.

        `at_work`: nodes some of whose replies were not read yet.
        """
        failed: dict[Address, StoreError] = {}
        # Who must be connected first comes last: it may hang, and the others work meanwhile.
        for address in sorted(payloads, key=lambda each: not self[each].line.is_open):
            node = self[address]
            if not node.breaker.allows():
                failed[address] = node.told()
                self.have_failed = True
                continue
            # One that hangs leaves half of the time to the others, and to read their replies.
            until = deadline if len(payloads) == 1 else deadline.half()
            send = node.line.send_more if address in at_work else node.line.send
            try:
                send(payloads[address], until)
            except StoreError as exc:
                failed[address] = self.failed(node, exc)
        return failed

    def collect(
        self,
        waiting: set[Address],
        deadline: Deadline,
        read: Callable[[Address, Line, Deadline], T],
    ) -> Iterator[tuple[Address, T | StoreError]]:
        """What `read` gives of each node of `waiting`, at once when it has answered; or its StoreError.

        Each is taken out of `waiting` before that.
        """
        half_time, until = deadline.half(), deadline
        while waiting:
            found = self._ready(waiting, until)
            for address in found or [*waiting]:
                waiting.discard(address)
                node = self[address]
                try:
                    if not found:
                        said = f"{node.line.endpoint} did not answer in time"
                        raise StoreUnavailableError(said) from TimeoutError()
                    # One that sends a byte at a time leaves half of the time to the others.
                    answer = read(address, node.line, deadline.half() if waiting else deadline)
                except StoreError as exc:
                    node.line.close()
                    yield address, self.failed(node, exc)
                else:
                    node.breaker.succeeded()
                    until = half_time
                    yield address, answer

    def failed(self, node: Node, exc: StoreError) -> StoreError:
        """Notes that `node` has failed with `exc`, which is returned."""
        reason = reason_of(exc)
        if reason == REFUSED:
            node.breaker.trip(reason, for_good=True)
        else:
            node.breaker.failed(reason)
        self.have_failed = True
        return exc

    def _ready(self, waiting: Collection[Address], until: Deadline) -> list[Address]:
        """Those that have something to read, or had and kept it; none if none has before `until`."""
        lines = {address: self[address].line for address in waiting}
        begun = [address for address, line in lines.items() if line.has_more]
        if begun:
            return begun
        poll = select.poll()
        for line in lines.values():
            poll.register(line.fileno(), select.POLLIN)
        numbers = {number for number, _ in poll.poll(until.left_s() * 1_000)}
        return [address for address, line in lines.items() if line.fileno() in numbers]
