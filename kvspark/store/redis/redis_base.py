"""What all stores have in common that reach Redis servers: they can be sent commands about keys.

Leases are made of such commands, so they are the same wherever the servers are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, final

from typing_extensions import override

from kvspark.store.base import Store
from kvspark.store.deadline import Deadline
from kvspark.store.leases import Leases
from kvspark.store.redis.leases import RedisLeases


class CommandedStore(Store):
    """A store on Redis servers."""

    @abstractmethod
    def ask_each(
        self, keys: Sequence[bytes], commands: Sequence[bytes], deadline: Deadline
    ) -> list[Any]:
        """A reply to each of `commands`, which is about the key beside it.

        Where the servers are several, a StoreError in the place of each that could not be had.

        Raises:
            StoreError: none could be had; of a single server, one of them could not.
        """

    @final
    @override
    def leases(self) -> Leases:
        return RedisLeases(self.ask_each)
