"""Counts of what was looked up, found and computed: values that add up over tasks.

`a + b` is associative and commutative, and `NOTHING + a == a`, so that Spark may merge the
tasks of a run in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, final

from kvspark.display import GREEN, GREY, ORANGE, bars, heading, table
from kvspark.wording import count_of

_SHOWN = ("rows", "lookups", "hits", "duplicates", "computed", "weights_loaded")
"""Counts of each stage that a notebook shows."""


@final
@dataclass(frozen=True, slots=True)
class StageStats:
    """What happened at one stage."""

    rows: int = 0
    """Rows that were asked of this stage."""
    lookups: int = 0
    """Distinct keys that were looked up in the store."""
    hits: int = 0
    duplicates: int = 0
    """Rows whose key another row of the same window had already asked for."""
    computed: int = 0
    """Distinct rows that were computed, without the dummy rows that fill a micro-batch."""
    micro_batches: int = 0
    padding_rows: int = 0
    """Dummy rows that filled micro-batches."""
    bytes_read: int = 0
    bytes_written: int = 0
    seconds_lookup: float = 0.0
    seconds_compute: float = 0.0
    seconds_insert: float = 0.0
    weights_loaded: int = 0
    """Workers that opened this stage's weights."""
    recalled: int = 0
    """Distinct rows whose results the worker still had, so that nobody was asked."""
    leased: int = 0
    """Distinct rows that were missing, and that another worker computed while this one did other work."""
    seconds_waited: float = 0.0
    """For rows that another worker was computing, with nothing else to do."""

    rested: int = 0
    """Rows that were not looked up, because computing them costs less; distinct ones, where equal rows are searched for."""
    turned_away: int = 0
    """Distinct rows that were computed and not written: above the share."""
    seconds_opened: float = 0.0
    """To open what computes it, in all workers together; the first stage that one opens imports the runtime too."""

    def __add__(self, other: StageStats) -> StageStats:
        return StageStats(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def hit_rate(self) -> float | None:
        """Hits of all look-ups, 0 to 1; None where nothing was looked up."""
        return self.hits / self.lookups if self.lookups else None

    def __repr__(self) -> str:
        counted = ((f.name, getattr(self, f.name)) for f in fields(self))
        return f"StageStats({', '.join(f'{name}={value:g}' for name, value in counted if value)})"


SLOWER, FORGETS, OWES = "slower", "forgets", "owes"
"""Why a stage rests."""


@final
@dataclass(frozen=True, slots=True)
class Rest:
    """Since when, and why, the store of one stage was left alone: `RunStats.rests`."""

    since: str
    """When the first worker began to: UTC, ISO 8601."""
    reasons: Mapping[str, int]
    """How many tasks had each reason: `slower` (looking a row up takes longer than computing it), `forgets` (the
    store had nothing of what it was asked back), `owes` (look-ups and inserts cost more than they saved)."""
    lookup_us: float = 0.0
    """Microseconds that looking a row up took where the reason is `slower`, the mean of all workers."""
    compute_us: float = 0.0
    """The same for computing it."""

    def __add__(self, other: Rest) -> Rest:
        ours, theirs = self.reasons.get(SLOWER, 0), other.reasons.get(SLOWER, 0)
        of = max(1, ours + theirs)
        return Rest(
            min(self.since, other.since),
            {
                reason: self.reasons.get(reason, 0) + other.reasons.get(reason, 0)
                for reason in sorted({*self.reasons, *other.reasons})
            },
            (self.lookup_us * ours + other.lookup_us * theirs) / of,
            (self.compute_us * ours + other.compute_us * theirs) / of,
        )

    @property
    def why(self) -> str:
        """The most frequent reason, in words."""
        reason = max(sorted(self.reasons), key=lambda each: self.reasons[each])
        if reason == SLOWER:
            return f"looking a row up takes {_us(self.lookup_us)} us, computing it {_us(self.compute_us)}"
        if reason == FORGETS:
            return "the store had forgotten what was inserted a moment before"
        return "look-ups and inserts cost more than they saved"


@final
@dataclass(frozen=True, slots=True)
class RunStats:
    """What happened in a task, or in a run."""

    rows: int = 0
    stages: Mapping[str, StageStats] = field(default_factory=dict)
    cache_errors: Mapping[str, int] = field(default_factory=dict)
    """Lookups and inserts that did not go as they should, by reason."""
    degraded: frozenset[str] = frozenset()
    """Reasons why the cache was not, or not always, used; empty in a healthy run."""
    bad_rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Rows that have no result, by the stage that could not compute them and by the kind of error."""
    rests: Mapping[str, Rest] = field(default_factory=dict)
    """Since when and why the store was left alone for some rows of a stage, by stage."""

    def __add__(self, other: RunStats) -> RunStats:
        stages = dict(self.stages)
        for name, stage in other.stages.items():
            stages[name] = stages.get(name, StageStats()) + stage
        errors = dict(self.cache_errors)
        for reason, count in other.cache_errors.items():
            errors[reason] = errors.get(reason, 0) + count
        bad = {place: dict(kinds) for place, kinds in self.bad_rows.items()}
        for place, kinds in other.bad_rows.items():
            into = bad.setdefault(place, {})
            for kind, count in kinds.items():
                into[kind] = into.get(kind, 0) + count
        rests = dict(self.rests)
        for name, rest in other.rests.items():
            rests[name] = rests[name] + rest if name in rests else rest
        degraded = self.degraded | other.degraded
        return RunStats(self.rows + other.rows, stages, errors, degraded, bad, rests)

    @property
    def lookups(self) -> int:
        """Distinct keys that were looked up, of all stages."""
        return sum(stage.lookups for stage in self.stages.values())

    @property
    def hits(self) -> int:
        """Of those, the ones that were found."""
        return sum(stage.hits for stage in self.stages.values())

    @property
    def hit_rate(self) -> float | None:
        """Hits of all look-ups, 0 to 1; None where nothing was looked up."""
        return self.hits / self.lookups if self.lookups else None

    def line(self) -> str:
        """The rows, and how many look-ups found what they looked for: `1,000 rows, hit rate 97.1%`."""
        rate = self.hit_rate
        return count_of(self.rows, "row") + ("" if rate is None else f", hit rate {rate:.1%}")

    @property
    def bad_row_count(self) -> int:
        """Rows that have no result."""
        return sum(sum(kinds.values()) for kinds in self.bad_rows.values())

    def __repr__(self) -> str:
        more = [self.line(), *(f"{n}: {s.computed:,} computed" for n, s in self.stages.items())]
        return f"RunStats({', '.join([*more, *self._troubles()])})"

    def _repr_html_(self) -> str:
        rows = [
            (
                name,
                *(f"{getattr(stage, count):,}" for count in _SHOWN),
                f"{stage.seconds_compute:.2f}",
            )
            for name, stage in self.stages.items()
        ]
        parts = {
            name: (
                ("found", stage.hits, GREEN),
                ("computed", stage.computed, ORANGE),
                ("of rows that are equal", stage.duplicates + stage.recalled, GREY),
            )
            for name, stage in self.stages.items()
        }
        head = ("stage", *(count.replace("_", " ") for count in _SHOWN), "seconds")
        return heading(self.line(), *self._troubles()) + bars(parts) + table(head, rows)

    def _troubles(self) -> list[str]:
        told = [f"{name} rested: {rest.why}" for name, rest in self.rests.items()]
        if self.bad_row_count:
            told.insert(0, f"{self.bad_row_count:,} bad rows")
        return [*told, f"degraded: {', '.join(sorted(self.degraded))}"] if self.degraded else told

    def to_json(self) -> dict[str, Any]:
        """This value as plain JSON types, sorted where order has no meaning."""
        return {
            "rows": self.rows,
            "stages": {name: asdict(stage) for name, stage in self.stages.items()},
            "cache_errors": dict(sorted(self.cache_errors.items())),
            "degraded": sorted(self.degraded),
            "bad_rows": {
                stage: dict(sorted(kinds.items())) for stage, kinds in sorted(self.bad_rows.items())
            },
            "rests": {name: asdict(rest) for name, rest in self.rests.items()},
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunStats:
        """The value that `to_json` wrote, of this version or an older one; counts that are no longer kept are left out."""
        kept = {each.name for each in fields(StageStats)}
        stages = {
            name: StageStats(**{count: n for count, n in stage.items() if count in kept})
            for name, stage in value["stages"].items()
        }
        return cls(
            value["rows"],
            stages,
            dict(value["cache_errors"]),
            frozenset(value["degraded"]),
            value.get("bad_rows", {}),  # reports of 0.1 before bad rows have none
            {name: Rest(**rest) for name, rest in value.get("rests", {}).items()},  # nor rests
        )


NOTHING = RunStats()
"""The neutral element of `+`."""


def _us(number: float) -> str:
    """Microseconds as entries know them: whole ones."""
    return f"{number:,.0f}" if number >= 1 else "less than 1"
