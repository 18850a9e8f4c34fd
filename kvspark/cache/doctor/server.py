"""Whether one server is set up as `conf/redis/` recommends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import final

from kvspark.cache.doctor.finding import Finding, size_text
from kvspark.store.redis.server_info import Interview

OLDEST = (6, 0)
"""Users with permissions, and RESP3."""

DECAY_MIN = 60
"""Minutes. With 1, the default, every counter is 0 when the next night comes; conf/redis/ has 720."""

FRAGMENTED = 1.5
SWAPPED = 0.9
"""Less memory in RAM than was given out: the rest is on a disk."""
_WORTH_JUDGING_BYTES = 64 * 2**20
"""A small server's ratio says nothing: its own code counts."""

EVICTED_A_DAY = 0.1
"""Of all keys. More than that, and the night's own entries push each other out."""

_CONF = "see conf/redis/redis.conf"
_DAY_S = 86_400


@final
class _Facts:
    """INFO and settings of one server, by name."""

    def __init__(self, told: Interview, info: Mapping[str, str]) -> None:
        self.place = told.place
        self.settings = told.settings
        self.info = info

    def number(self, name: str) -> float:
        """A number of INFO; 0 where the server does not give it."""
        try:
            return float(self.info.get(name, "0"))
        except ValueError:
            return 0.0


def judged(told: Interview, *, is_private: bool, is_cluster: bool) -> Iterator[Finding]:
    """What the server's own words mean; `is_private` is one of this machine that saves on purpose."""
    if told.info is None:
        yield Finding(
            "unseen",
            f"{told.place} version, memory, evictions",
            "its user may not ask INFO",
            advice="run kvspark doctor --as kvspark-doctor, a user of conf/redis/users.acl",
        )
    else:
        facts = _Facts(told, told.info)
        for judge in (_version, _maxmemory, _policy, _evictions, _fragmentation):
            yield from judge(facts)
        yield from _role(facts, is_cluster=is_cluster)
    policy = "lfu" if told.info is None else told.info.get("maxmemory_policy", "")
    if policy.endswith("lfu"):
        yield from _decay(told)
    if not is_private:
        yield from _persistence(told)


def _version(facts: _Facts) -> Iterator[Finding]:
    valkey = facts.info.get("valkey_version")
    text = valkey or facts.info.get("redis_version", "unknown")
    name = f"{'Valkey' if valkey else 'Redis'} {text}"
    parts = tuple(int(each) for each in text.split(".")[:2] if each.isdecimal())
    if parts >= OLDEST:
        yield Finding("ok", f"{facts.place} version", name)
        return
    yield Finding(
        "warn",
        f"{facts.place} version",
        name,
        "6.0 or later, which has users",
        "renew the server, or keep it to a network of its own",
    )


def _role(facts: _Facts, *, is_cluster: bool) -> Iterator[Finding]:
    if facts.info.get("role") not in (None, "master"):
        yield Finding(
            "bad",
            f"{facts.place} role",
            "a replica, which takes no writes",
            "a primary",
            "name the primary, or write redis+sentinel:// in cache.url",
        )
    if (facts.info.get("cluster_enabled") == "1") != is_cluster:
        yield Finding(
            "bad",
            f"{facts.place} mode",
            "one server" if is_cluster else "a node of a cluster",
            "a cluster" if is_cluster else "one server",
            f"write redis{'' if is_cluster else '+cluster'}:// in cache.url",
        )


def _maxmemory(facts: _Facts) -> Iterator[Finding]:
    what = f"{facts.place} maxmemory"
    limit, used = facts.number("maxmemory"), facts.number("used_memory")
    if not limit:
        yield Finding(
            "bad",
            what,
            f"0, no limit ({size_text(used)} in use)",
            "three quarters of the machine's memory",
            f"set maxmemory, or the system kills the server one night; {_CONF}",
        )
        return
    yield Finding("ok", what, f"{size_text(limit)}, {used / limit:.0%} in use")


def _policy(facts: _Facts) -> Iterator[Finding]:
    what, policy = f"{facts.place} maxmemory-policy", facts.info.get("maxmemory_policy", "unknown")
    if policy in ("allkeys-lfu", "volatile-lfu"):
        yield Finding("ok", what, policy)
        return
    is_bad = policy == "noeviction"
    trouble = ", so that a full server takes no entry" if is_bad else ""
    yield Finding(
        "bad" if is_bad else "warn",
        what,
        f"{policy}{trouble}",
        "allkeys-lfu, or volatile-lfu where others share the server",
        f"set maxmemory-policy allkeys-lfu, {_CONF}",
    )


def _decay(told: Interview) -> Iterator[Finding]:
    what, text = f"{told.place} lfu-decay-time", told.settings.get("lfu-decay-time")
    if text is None:
        yield _unasked(what)
        return
    minutes = int(text) if text.isdecimal() else 0
    # 0 is a server that halves no counter, ever.
    if minutes == 0 or minutes >= DECAY_MIN:
        yield Finding("ok", what, f"{text} minutes")
        return
    yield Finding(
        "warn",
        what,
        f"{text} minutes",
        f"{DECAY_MIN} or more",
        f"set lfu-decay-time 720: until the next night all uses are forgotten; {_CONF}",
    )


def _persistence(told: Interview) -> Iterator[Finding]:
    what = f"{told.place} persistence"
    save, append = told.settings.get("save"), told.settings.get("appendonly")
    if append is None and told.info is not None and told.info.get("aof_enabled") == "1":
        append = "yes"
    kept = [*(["RDB"] if save else []), *(["AOF"] if append == "yes" else [])]
    if kept:
        yield Finding(
            "warn",
            what,
            f"{' and '.join(kept)} on",
            "off",
            f'set save "" and appendonly no: copies on a disk outlive a purge, and a fork doubles memory; {_CONF}',
        )
    elif save is None:
        yield _unasked(what)
    else:
        yield Finding("ok", what, "off")


def _evictions(facts: _Facts) -> Iterator[Finding]:
    what = f"{facts.place} evictions"
    evicted, up_s = facts.number("evicted_keys"), max(1.0, facts.number("uptime_in_seconds"))
    keys = sum(
        int(part.partition("=")[2])
        for name, value in facts.info.items()
        if name.startswith("db")
        for part in value.split(",")
        if part.startswith("keys=")
    )
    # A server that is young has not had its night yet: what it evicted counts as a whole day's.
    a_day = evicted / max(1.0, up_s / _DAY_S)
    got = f"{evicted:,.0f} in {up_s / 3_600:,.1f} h, {keys:,} keys now"
    if a_day <= EVICTED_A_DAY * max(1, keys):
        yield Finding("ok", what, got)
        return
    yield Finding(
        "warn",
        what,
        got,
        f"at most {EVICTED_A_DAY:.0%} of the keys a day",
        "raise maxmemory, or set cache.budget_bytes below it, so that the same part stays each night",
    )


def _fragmentation(facts: _Facts) -> Iterator[Finding]:
    what = f"{facts.place} fragmentation"
    ratio, used = facts.number("mem_fragmentation_ratio"), facts.number("used_memory")
    got = f"{ratio:.2f} times {size_text(used)}"
    if used < _WORTH_JUDGING_BYTES or SWAPPED <= ratio <= FRAGMENTED:
        yield Finding("ok", what, got)
    elif ratio > FRAGMENTED:
        yield Finding(
            "warn",
            what,
            got,
            f"at most {FRAGMENTED}",
            "set activedefrag yes, or restart the server in the daytime",
        )
    else:
        yield Finding(
            "bad",
            what,
            f"{got}: a part of it is swapped out",
            "all of it in memory",
            "lower maxmemory",
        )


def _unasked(what: str) -> Finding:
    return Finding(
        "unseen",
        what,
        "its user may not ask CONFIG GET",
        advice="run kvspark doctor --as kvspark-doctor, a user of conf/redis/users.acl",
    )
