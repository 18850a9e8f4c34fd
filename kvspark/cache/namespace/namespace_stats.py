"""What is in a namespace, by stage: about how many entries, how many bytes, and when it was last used.

One entry of the namespace holds it, sealed as all are. The driver of a run adds once, when its output
is published, what the run's tasks have counted; workers never write it. It is a hint:

- lost, evicted or never written, it says that nothing is there, and so does a run that was killed
  before it could add: `kvspark.cache.probing` makes that cheap;
- of two runs that add at one moment one looks again and adds once more;
- counts are of what was written in the time that an entry lives. What was evicted is still in them,
  what two workers wrote is in them twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, final

import numpy as np

from kvspark.spec import TensorSpec

if TYPE_CHECKING:
    from kvspark.cache.stage.stage_cache import StageCache

IDENTITY = b"kvspark.registry"
SPECS = (TensorSpec("json", "uint8", (None,)),)

LIFE = 1.2
"""Of an entry's: longer than any entry that it counts, whose lives differ by a tenth."""

_FORMAT = 1
_DAY_S = 86_400
_TRIES = 3
_ROW = [b""]


@final
@dataclass(frozen=True, slots=True)
class Stock:
    """What was written to one stage and has not ended."""

    name: str
    last_used_s: int
    """Seconds since 1970."""
    days: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Entries and bytes that were written, by day since 1970."""

    @property
    def entries(self) -> int:
        """About how many there are, at the most."""
        return sum(entries for entries, _ in self.days.values())

    @property
    def size_bytes(self) -> int:
        """Bytes of their values."""
        return sum(size_bytes for _, size_bytes in self.days.values())

    def older_than(self, before_s: int) -> Stock:
        """The part that was written on days before that of `before_s`."""
        days = {day: each for day, each in self.days.items() if day < before_s // _DAY_S}
        return Stock(self.name, self.last_used_s, days)


@final
@dataclass(frozen=True, slots=True)
class Use:
    """What a run did with one stage."""

    name: str
    entries: int
    """That it wrote."""
    size_bytes: int


Stocks = Mapping[bytes, Stock]
"""By the fingerprint of a stage."""


def _now_s() -> int:
    return int(datetime.now(timezone.utc).timestamp())


@final
class NamespaceRegistry:
    """What is in one namespace; `space` holds it, and entries live `ttl_s`."""

    def __init__(
        self, space: StageCache, *, ttl_s: float, now_s: Callable[[], int] = _now_s
    ) -> None:
        self._space = space
        self._ttl_s = ttl_s
        self._now_s = now_s

    def stocks(self) -> Stocks | None:
        """What there is; None if the store does not say. Never raises for trouble with it."""
        lookup = self._space.lookup(self._space.digests(_ROW))
        if not lookup.is_answered:
            return None
        if not lookup.found[0]:
            return {}
        return self._alive(parsed(bytes(lookup.columns[0][0])))

    def add(self, uses: Mapping[bytes, Use]) -> None:
        """Adds what a run did, by the fingerprint of each stage that it used; best effort."""
        now_s = self._now_s()

        def added(stocks: Stocks) -> Stocks:
            changed = dict(stocks)
            for fingerprint, use in uses.items():
                old = changed.get(fingerprint)
                days = {} if old is None else dict(old.days)
                if use.entries:
                    entries, size_bytes = days.get(now_s // _DAY_S, (0, 0))
                    days[now_s // _DAY_S] = entries + use.entries, size_bytes + use.size_bytes
                changed[fingerprint] = Stock(use.name, now_s, days)
            return changed

        if uses:
            self._change(added)

    def remove(self, stages: Sequence[bytes] | None, before_s: int | None = None) -> None:
        """Forgets what was written before `before_s`, or ever; to `stages`, or to all where it is None.

        stages: fingerprints.
        """

        def without(stocks: Stocks) -> Stocks:
            changed = dict(stocks)
            for fingerprint in stocks if stages is None else stages:
                stock = changed.pop(fingerprint, None)
                if stock is not None and before_s is not None:
                    old = stock.older_than(before_s).days
                    days = {day: each for day, each in stock.days.items() if day not in old}
                    changed[fingerprint] = Stock(stock.name, stock.last_used_s, days)
            return changed

        self._change(without)

    def _change(self, change: Callable[[Stocks], Stocks]) -> None:
        stocks = self.stocks()
        for _ in range(_TRIES):
            if stocks is None:
                return
            wanted = change(stocks)
            if wanted == stocks:
                return
            text = np.frombuffer(_text(wanted), dtype=np.uint8)
            self._space.insert(self._space.digests(_ROW), ([text],), cost_us=0)
            stocks = self.stocks()
            if stocks is None or stocks == self._alive(wanted):
                return

    def _alive(self, stocks: Stocks) -> Stocks:
        """`stocks` without what has ended."""
        first = int(self._now_s() - self._ttl_s) // _DAY_S
        alive = {}
        for fingerprint, stock in stocks.items():
            days = {day: each for day, each in stock.days.items() if day >= first}
            if days:
                alive[fingerprint] = Stock(stock.name, stock.last_used_s, days)
        return alive


def _text(stocks: Stocks) -> bytes:
    stages = {
        fingerprint.hex(): {
            "name": stock.name,
            "last_used_s": stock.last_used_s,
            "days": {str(day): list(each) for day, each in sorted(stock.days.items())},
        }
        for fingerprint, stock in sorted(stocks.items())
    }
    return json.dumps({"format": _FORMAT, "stages": stages}).encode()


def parsed(text: bytes) -> Stocks:
    """What `_text` wrote; nothing if it is anything else."""
    try:
        value: Any = json.loads(text)
        if value["format"] != _FORMAT:
            return {}
        return {
            bytes.fromhex(fingerprint): Stock(
                str(stage["name"]),
                int(stage["last_used_s"]),
                {
                    int(day): (max(0, int(entries)), max(0, int(size_bytes)))
                    for day, (entries, size_bytes) in stage["days"].items()
                },
            )
            for fingerprint, stage in value["stages"].items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return {}
