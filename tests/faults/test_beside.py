"""The faults of the store once more, for runs with a thread beside them: same output, and it says what it lost."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import pytest

from kvspark.cache.cache import Cache
from kvspark.store.breaker import FAILURES
from tests.faults import case
from tests.faults.cache_rows import CACHE_ROWS, CacheRow
from tests.faults.conftest import Fired
from tests.faults.matrix import covers
from tests.faults.staging import staged

pytestmark = pytest.mark.redis

ROWS = ("F2:", "F4:", "F5:", "F8:", "F12:", "F14:", "F25:", "F30:")


BESIDE = {
    "overlaps": {"overlap_bytes": 1 << 20},
}


def connected(url: str, options: Mapping[str, int], *, timeout_ms: int) -> Cache:
    with closing(case.connected(url, timeout_ms=timeout_ms)) as plain:
        config = plain.config.model_copy(update=options)
    return Cache.from_config(config)


@pytest.mark.parametrize("options", BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=covers(row.row), id=str(row))
        for row in CACHE_ROWS
        if str(row).startswith(ROWS)
    ],
)
def test_the_output_of_a_run_with_a_thread_beside_it_is_that_of_one_without_a_cache(
    row: CacheRow, options: Mapping[str, int], fired: Fired
) -> None:
    off = case.without_cache()
    with staged(*row.options) as staging:
        # Where look-ups and writes have been, by two connections.
        staging.proxy.turn_on(row.fault(staging), first=100)
        with closing(connected(staging.proxy.url, options, timeout_ms=row.timeout_ms)) as cache:
            ran = case.run(cache)
            row.heal(staging)
        fired(str(row), row.count(staging), seconds=ran.seconds, seconds_off=off.seconds)
    errors = ran.stats.cache_errors
    assert ran.output.equals(off.output)
    assert (errors.keys() & row.counted) or not row.counted
    # Calls and the thread share a breaker: each may have one more under way when it opens.
    assert errors.get("timeout", 0) <= 2 * FAILURES + 2
    assert "failed" not in errors
