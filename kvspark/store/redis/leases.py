"""Leases on a Redis server: `SET … NX PX`, one for each key, in one go.

They are left to end by themselves. To delete one's own and nobody else's takes a script, or DELEX of
Redis 8.4, which a job's user may not call; and who asks for a key whose entry is there looks for the
entry first, so that a lease which nobody needs any more keeps nobody waiting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

from typing_extensions import override

from kvspark.errors import StoreError
from kvspark.store.deadline import Deadline
from kvspark.store.leases import Leases
from kvspark.store.resp.command import command

Ask = Callable[[Sequence[bytes], Sequence[bytes], Deadline], list[Any]]
"""(keys, commands, deadline) -> a reply to each command, which is about the key beside it. May hold a
StoreError in the place of some replies, not of all."""


@final
class RedisLeases(Leases):
    """Leases on the server, or servers, that `ask` talks to."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    @override
    def claim_many(self, keys: Sequence[bytes], deadline: Deadline, *, ttl_s: float) -> list[bool]:
        if not keys:
            return []
        ttl_ms = b"%d" % max(1, round(ttl_s * 1_000))
        commands = [command(b"SET", key, b"", b"NX", b"PX", ttl_ms) for key in keys]
        replies = self._ask(keys, commands, deadline)
        return [reply == b"OK" or isinstance(reply, StoreError) for reply in replies]
