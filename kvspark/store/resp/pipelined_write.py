"""Entries on their way to one server: the next ones are made while it takes those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import final

from kvspark.errors import StoreUnavailableError
from kvspark.store.base import Counts, Entries
from kvspark.store.deadline import Deadline
from kvspark.store.endpoint import Endpoint
from kvspark.store.redis_error import store_error
from kvspark.store.resp.command import set_pieces
from kvspark.store.resp.connection import Line
from kvspark.store.resp.resp_connection import Payload

LARGE_BYTES = 16 * 1024
"""Values of so many bytes are sent from where they are."""

AHEAD = 4
"""Windows that were sent and not answered yet. Replies are 5 bytes an entry, so that no server stops
reading because we do not."""


@final
class PipelinedWrite:
    """One call of many windows over `line`, which is the caller's until it is over."""

    def __init__(
        self, line: Line, endpoint: Endpoint, ttl_s: float | None, deadline: Deadline
    ) -> None:
        self._line = line
        self._endpoint = endpoint
        self._ttl_s = ttl_s
        self._deadline = deadline
        self._counts: deque[int] = deque()
        """Of the windows that were sent and not answered, their entries."""

    def run(self, first: Entries, others: Iterator[Entries]) -> Counts:
        """Writes all windows; as `Store.write`."""
        line = self._line
        try:
            self._counts.append(len(first))
            line.send(set_payload(first, self._ttl_s), self._deadline)
            # Made, and not sent before the first is answered: until then all may have to be sent
            # again, and a server that takes no writes is told of one window.
            following = self._made(others)
            while self._counts:
                yield self._answer()
                while following is not None:
                    count, payload = following
                    self._counts.append(count)
                    line.send_more(payload, self._deadline)
                    following = self._made(others)
                    if len(self._counts) >= AHEAD:
                        break
        except BaseException:
            if self._counts:
                # What is still to come would be taken for the answer to the next call.
                line.close()
            raise

    def _made(self, windows: Iterator[Entries]) -> tuple[int, Payload] | None:
        for window in islice(windows, 1):
            return len(window), set_payload(window, self._ttl_s)
        return None

    def _answer(self) -> int:
        """How many entries of the oldest window were taken; all of them.

        Raises:
            StoreError: some were not.
        """
        count = self._counts[0]
        replies = self._line.read(count, self._deadline, is_last=len(self._counts) == 1)
        self._counts.popleft()
        for reply in replies:
            if isinstance(reply, Exception):
                raise store_error(reply, self._endpoint) from reply
        if replies.count(b"OK") < count:
            self._line.close()
            raise odd_reply(self._endpoint)
        return count


def set_payload(entries: Entries, ttl_s: float | None) -> Payload:
    """The commands that set `entries`."""
    pieces = set_pieces(entries, ttl_s)
    return pieces if entries and len(entries[0][1]) >= LARGE_BYTES else b"".join(pieces)


def odd_reply(endpoint: Endpoint) -> StoreUnavailableError:
    """The error of a server that answered a write with something else than OK."""
    return StoreUnavailableError(f"{endpoint} answered a write with something else")
