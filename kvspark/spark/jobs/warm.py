"""The `warm` command: how much may be lifted, and what is told of it."""

from __future__ import annotations

from contextlib import closing

from kvspark.cache.cache import Cache
from kvspark.cache.doctor.finding import size_text
from kvspark.config.job import JobConfig
from kvspark.errors import UsageError
from kvspark.wording import count_of


def run_warm(config: JobConfig, *, most_bytes: int | None = None) -> str:
    """What was lifted from the cold tier of `config`, as a line; `most_bytes` bounds its memory.

    Raises:
        UsageError: the conf has no cold tier, or nobody says how much may be lifted.
        CacheRequiredError: the store or the cold tier does not answer, or a purge is under way.
        SecretError: the store refuses us.
    """
    if config.cache is None:
        raise UsageError("the conf names no cache; there is nothing to lift")
    with closing(Cache.from_config(config.cache)) as cache, closing(cache.warm()) as warm:
        given = [each for each in (most_bytes, warm.room_bytes()) if each is not None]
        if not given and config.cache.budget_bytes is not None:
            given = [config.cache.budget_bytes]
        if not given:
            raise UsageError(
                "the store does not say how much memory it has left (no maxmemory, or a user who may not "
                "ask INFO); say how much may be filled with --bytes, or in cache.budget_bytes"
            )
        done = warm.lift(min(given))
    full = "; there was no room for more" if done.is_full else ""
    return (
        f"lifted {count_of(done.entries, 'entry')} ({size_text(done.memory_bytes)} of memory); {done.present:,} "
        f"were there before{full}"
    )
