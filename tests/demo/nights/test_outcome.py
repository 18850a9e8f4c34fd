from __future__ import annotations

import io
import json
from dataclasses import replace

from rich.console import Console

from kvspark.demo.nights.outcome import Outcome, complaints, table
from kvspark.stats import StageStats
from tests.demo.outcomes import NIGHTS, outcome


def shown(*nights: Outcome) -> str:
    written = io.StringIO()
    Console(file=written, width=160).print(table(nights))
    return written.getvalue()


def test_a_hit_at_any_stage_counts():
    assert [night.hit_rate for night in NIGHTS] == [0.0, 0.99, 1.0]


def test_the_json_of_a_night_has_the_counts_of_each_stage():
    value = json.loads(json.dumps(NIGHTS[1].to_json()))
    assert value["name"] == "night 2: b"
    assert value["rows"] == 1000
    assert value["equal_to_cache_off"] is True
    assert list(value["stages"]) == ["features", "trunk", "head"]
    counts = {"lookups": 10, "hits": 0, "duplicates": 0, "computed": 10, "weights_loaded": 0}
    assert value["stages"]["trunk"] == counts


def test_a_night_without_held_out_rows_has_no_accuracy():
    night = replace(NIGHTS[0], accuracy=None)
    assert night.to_json()["accuracy"] is None
    assert "0.750" not in shown(night)


def test_the_table_shows_how_much_faster_a_night_was_than_the_first():
    text = shown(*NIGHTS)
    assert "a & b" in text
    assert "99.0 %" in text
    assert "991.0" in text


def test_a_difference_is_seen_in_the_table():
    assert "NO" in shown(outcome("n", computed=(1, 1, 1), difference="column x"))
    assert "NO" not in shown(*NIGHTS)


def test_three_nights_fit_a_terminal_of_eighty_columns():
    written = io.StringIO()
    Console(file=written, width=80).print(table(NIGHTS))
    assert "…" not in written.getvalue()
    assert max(map(len, written.getvalue().splitlines())) <= 80


def test_only_all_rows_are_a_hundred_percent():
    assert "99.9 %" in shown(outcome("n", computed=(0, 0, 0), hits=999))


def test_nights_that_did_what_they_should_give_no_complaint():
    assert complaints(NIGHTS) == []


def test_a_difference_is_a_complaint():
    (said,) = complaints([replace(NIGHTS[0], difference="column confidence"), *NIGHTS[1:]])
    assert "night 1" in said
    assert "column confidence" in said


def test_a_trunk_that_runs_in_the_last_night_is_a_complaint():
    (said,) = complaints([*NIGHTS[:2], outcome("night 3", computed=(1, 1, 1000))])
    assert "1 row" in said


def test_weights_that_are_opened_in_the_last_night_are_a_complaint():
    opened = {**NIGHTS[2].stages, "trunk": StageStats(lookups=1000, hits=1000, weights_loaded=2)}
    (said,) = complaints([*NIGHTS[:2], replace(NIGHTS[2], stages=opened)])
    assert "2 workers opened its weights" in said


def test_a_cache_that_was_not_used_is_a_complaint():
    (said,) = complaints([replace(NIGHTS[0], degraded=("unavailable",)), *NIGHTS[1:]])
    assert "unavailable" in said
