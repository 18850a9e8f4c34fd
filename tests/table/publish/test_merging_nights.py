"""Any nights of merges, and nights that are killed: the table is what the rules say, whole."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.killed_process import killed_at
from tests.table.publish.merging import (
    counts,
    ids,
    needless,
    publish,
    scores,
    table,
)
from tests.table.publish.readers import while_reading
from tests.table.publish.targets import new_url

DELTA_POINTS = "fenced swept rewritten merged told closed synced published discarding".split()
ICEBERG_POINTS = "fenced swept rewritten merged told closed synced planned published".split()
POINTS = {
    "delta": DELTA_POINTS,
    "delta-s3": ["rewritten", "merged", "synced", "published"],
    "iceberg": ICEBERG_POINTS,
    "iceberg-s3": ["rewritten", "merged", "planned"],
}

NIGHTS = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 12), st.floats(width=32), max_size=6),
        st.sets(st.integers(0, 12), max_size=3),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
@settings(max_examples=10, deadline=None)
@given(nights=NIGHTS)
def test_any_nights_leave_what_the_rules_say_bit_for_bit(
    kind: str,
    nights: list[tuple[dict[int, float], set[int]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    url = new_url(kind, "", tmp_path_factory.mktemp("nights"))
    expected: dict[int, float] = {}
    for number, (came, went) in enumerate(nights):
        gone = {*came, *went}
        removed = len(expected.keys() & (went - came.keys()))
        replaced = len(expected.keys() & came.keys())
        rows = pa.table(
            {
                "id": pa.array(list(came), pa.int64()),
                "score": pa.array(list(came.values()), pa.float64()),
            }
        )
        made = publish(url, f"n{number}", rows, ids(*gone))
        assert counts(made) == (replaced, removed)
        expected = {n: x for n, x in expected.items() if n not in gone} | came
        found = scores(url)
        assert {n: x.hex() for n, x in found.items()} == {n: x.hex() for n, x in expected.items()}


def main(url: str, run_id: str, score: float) -> None:
    """A run in this process, which may be killed."""
    publish(url, run_id, table({2: score, 3: score, 12: score}), ids(2, 3, 7, 12))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "point"), [(kind, point) for kind, points in POINTS.items() for point in points]
)
def test_a_run_that_is_killed_leaves_the_old_or_the_new_table(
    kind: str, point: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base = request.getfixturevalue("s3").url if kind.endswith("s3") else ""
    url = new_url(kind, base, tmp_path)
    for number in range(2):
        publish(url, "zero", table({n: float(number) for n in range(9)}))
    old = scores(url)
    new = {n: x for n, x in old.items() if n != 7} | {2: 5.0, 3: 5.0, 12: 5.0}

    def killed() -> None:
        killed_at(point, main, url, "two", 5.0)

    assert all(each in (old, new) for each in while_reading(lambda: scores(url), killed))
    assert scores(url) in (old, new)
    publish(url, "two", table({2: 5.0, 3: 5.0, 12: 5.0}), ids(2, 3, 7, 12))
    assert scores(url) == new
    assert not needless(url)
