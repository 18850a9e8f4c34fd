from __future__ import annotations

import io
import json
from dataclasses import replace

from rich.console import Console

from kvspark.demo.outcome import Outcome, table
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
    assert "night 1: a & b" in text
    assert "99.0 %" in text
    assert "991.0" in text


def test_a_difference_is_named_in_the_table():
    assert "no: column x" in shown(outcome("n", computed=(1, 1, 1), difference="column x"))


def test_only_all_rows_are_a_hundred_percent():
    assert "99.9 %" in shown(outcome("n", computed=(0, 0, 0), hits=999))
