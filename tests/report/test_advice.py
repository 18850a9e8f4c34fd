"""What a cache did for a run: saved, cost, or nobody knows; and what to set where it cost more."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from kvspark.report.advice import told_cache
from kvspark.report.topics import topics
from kvspark.spark.runs.run_report import RunReport, seconds_saved
from kvspark.stats import RunStats, StageStats
from tests.report.test_run_report import HEAD, REPORT, TRUNK


def ran(**stages: StageStats) -> RunReport:
    """A run of a trunk (10 ms a row) and a head (1 ms)."""
    stats = RunStats(rows=1000, stages=stages)
    return replace(REPORT, stats=stats, seconds_saved=seconds_saved((TRUNK, HEAD), stats))


def test_a_cache_that_saved_says_how_much() -> None:
    (line,) = told_cache(ran(head=StageStats(lookups=1000, hits=1000, seconds_lookup=1.0)))
    assert line == "the cache saved about 10.0 s of computing"


def test_what_is_printed_as_nothing_is_no_ground_for_an_advice() -> None:
    for hits in (1, 3):
        (line,) = told_cache(ran(head=StageStats(lookups=3, hits=hits, seconds_lookup=0.02)))
        assert line == "the cache saved about as much as it cost, to a tenth of a second"


def test_a_plan_that_looks_nothing_up_is_told_as_such() -> None:
    (line,) = told_cache(ran(head=StageStats(computed=1000, seconds_compute=1.0)))
    assert line == "the cache saved and cost nothing: no row was looked up"


def test_two_hundredths_of_a_run_are_no_ground_for_an_advice() -> None:
    stats = RunStats(stages={"head": StageStats(lookups=10, computed=10, seconds_lookup=1.0)})
    slow = replace(REPORT, stats=stats, seconds={"score": 100.0}, seconds_saved=-1.0)
    assert told_cache(slow) == ["the cache cost about 1.0 s more than it saved, of 100.0 s"]


def test_a_first_night_of_dear_look_ups_is_a_first_night() -> None:
    (line,) = told_cache(ran(head=replace(COLD, seconds_lookup=20.0)))
    assert "set plan" not in line


def test_without_a_cache_nothing_is_said() -> None:
    assert told_cache(replace(REPORT, seconds_saved=None)) == []


DEAR_LOOKUPS = StageStats(lookups=1000, hits=500, computed=500, seconds_lookup=20.0)
COLD = StageStats(
    lookups=1000, computed=1000, seconds_lookup=0.5, seconds_insert=2.0, bytes_written=9
)
WAITING = StageStats(lookups=1000, hits=10, computed=990, seconds_lookup=0.5, seconds_waited=9.0)
WRITING = StageStats(
    lookups=1000, hits=900, computed=100, seconds_lookup=1, seconds_insert=99.0, bytes_written=9
)
FEW = StageStats(lookups=1000, hits=10, computed=990, seconds_lookup=1.0, seconds_insert=0.1)


@pytest.mark.parametrize(
    ("head", "advice"),
    [
        (
            DEAR_LOOKUPS,
            "a look-up takes 20.0 ms a row and computing 11.0 ms; set plan.stages.head.",
        ),
        (
            COLD,
            "1,000 rows of head were computed and written for the next run, which will find them",
        ),
        (
            WAITING,
            "9.0 s of waiting for other workers at head; set cache.lease_from_ms higher, or leave it out",
        ),
        (WRITING, "99.0 s of writing at head; set cache.overlap_bytes: 67108864"),
        (FEW, "10 of 1,000 rows of head were found; if it stays so, set plan.stages.head.cached"),
    ],
    ids=["look-ups", "cold", "waiting", "writing", "few"],
)
def test_a_cache_that_cost_more_says_which_key_to_set_to_what(
    head: StageStats, advice: str
) -> None:
    (line,) = told_cache(ran(head=head))
    assert line.startswith("the cache cost about ")
    assert advice in line
    keys = {
        re.sub(r"stages\.head", "stages.<name>", key)
        for key in re.findall(r"(?:cache|plan)\.[\w.]*\w", line)
    }
    assert keys <= set(topics())
    assert bool(keys) == (
        "will find them" not in line
    )  # a first night is none to change anything for


def test_the_stage_that_cost_most_is_named() -> None:
    cheap = StageStats(lookups=10, hits=10, seconds_lookup=0.001)
    (line,) = told_cache(ran(trunk=DEAR_LOOKUPS, head=cheap))
    assert "plan.stages.trunk.cached: false" in line


def test_what_nobody_has_measured_is_not_said_to_cost() -> None:
    unknown = replace(HEAD, seconds_per_row=None)
    stats = RunStats(stages={"head": StageStats(lookups=10, hits=10, seconds_lookup=1.0)})
    report = replace(REPORT, stages=(TRUNK, unknown), stats=stats, seconds_saved=-1.0)
    assert told_cache(report) == [
        "how much the cache saved is not known: no run has computed head here yet"
    ]
