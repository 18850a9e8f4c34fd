"""`kvspark explain`: every code, field, reason and key that a user can meet has its text."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path

import pytest

from kvspark import errors
from kvspark.cli import run
from kvspark.config.job import JobConfig
from kvspark.errors import KvsparkError, UsageError
from kvspark.report.codes import CODES, error_of
from kvspark.report.fields import REASONS, RUN_FIELDS, STAGE_FIELDS
from kvspark.report.topics import EXIT_CODES, contents, explain, topics
from kvspark.spark.runs.run_report import RunReport, StageReport
from kvspark.stats import RunStats, StageStats

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for path in (ROOT / "kvspark").rglob("*.py")
    if path.parent.name != "report" or path.name not in {"codes.py", "topics.py"}
)


def test_every_code_in_the_sources_has_its_text_and_no_other_has() -> None:
    found: set[str] = set()
    for path in SOURCES:
        found |= set(re.findall(r"\bKVS-\d{4}\b", path.read_text(encoding="utf-8")))
    assert found - set(CODES) == set()
    assert {code for code in CODES if error_of(code) is None} == {"KVS-1999"}


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code_says_what_it_means_why_what_to_do_what_was_written_and_the_exit_code(
    code: str,
) -> None:
    text = explain(code)
    for part in (code, "likely because:", "what to do:", "written: ", "exit code: "):
        assert part in text
    error = error_of(code) or KvsparkError
    assert f"exit code: {error.exit_code}," in text
    assert max(map(len, text.splitlines())) <= 80
    assert explain(code.lower()) == text == explain(code.removeprefix("KVS-"))


def test_every_exit_code_of_an_error_is_explained_with_its_codes() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    for kind in (kind for kind in kinds if issubclass(kind, KvsparkError)):
        assert kind.exit_code in EXIT_CODES
        assert kind.code in explain(str(kind.exit_code))


def a_report() -> RunReport:
    return RunReport(
        run_id="a",
        name="b",
        logical_date=None,
        started_at="2026-01-03T01:00:00+00:00",
        model="m",
        fingerprint="aa",
        output="/o",
        inputs=("/i",),
        rows_in=1,
        rows_out=1,
        input_files=1,
        empty_input_files=0,
        output_files=1,
        output_bytes=1,
        stages=(StageReport("trunk", "aa", ()),),
        stats=RunStats(),
        cache=None,
        seconds={},
        seconds_saved=None,
    )


def test_every_field_of_a_run_report_is_explained_and_no_other_is() -> None:
    value = a_report().to_json()
    assert set(value) == set(RUN_FIELDS)
    assert set(value["stages"]["trunk"]) == set(STAGE_FIELDS)
    assert {field.name for field in fields(StageStats)} <= set(STAGE_FIELDS)
    for name in RUN_FIELDS:
        assert RUN_FIELDS[name][:20] in explain(name)
    for name in STAGE_FIELDS:
        assert explain(f"stages.{name}") in explain(name)


def words_of_trouble() -> set[str]:
    """The words by which the cache and the predictor count trouble: constants of one lower-case word."""
    found: set[str] = set()
    for name in ("store/trouble", "cache/entry/header", "cache/seal/base", "cache/entry/writer"):
        tree = ast.parse((ROOT / f"kvspark/{name}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                target, value = node.targets[0], node.value.value
                if isinstance(target, ast.Name) and value == target.id.lower():
                    found.add(str(value))
    return found


def test_every_reason_by_which_trouble_is_counted_is_explained() -> None:
    found = words_of_trouble()
    assert {"timeout", "slow", "misplaced", "corrupt", "too_large"} <= found
    assert found <= set(REASONS)


def test_a_word_of_two_meanings_gets_both() -> None:
    text = explain("inputs").replace("\n", " ")
    assert "field of run.json" in text
    assert "key of the conf" in text


def test_a_key_of_the_conf_is_explained_by_its_description() -> None:
    text = explain("input.filter").replace("\n", " ")
    assert "default: none" in text
    inputs = JobConfig.model_fields["input"].annotation
    assert inputs is not None
    described = inputs.model_fields["filter"].description
    assert " ".join(described.split()) in " ".join(text.split())


@pytest.mark.parametrize("family", ["KVS-11", "kvs-11.."])
def test_the_first_places_of_a_code_list_all_that_begin_so(family: str) -> None:
    text = explain(family)
    for code in CODES:
        assert (code in text) == code.startswith("KVS-11")
    assert max(map(len, text.splitlines())) <= 80


def test_an_exit_code_says_where_what_to_do_is() -> None:
    assert "kvspark explain KVS-1400" in explain("73")


def test_what_is_unknown_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean rows_in"):
        explain("row_in")
    with pytest.raises(UsageError, match=r"did you mean cache\.ttl_s"):
        explain("cache.ttl")


def test_the_list_names_every_code_field_and_reason_in_80_columns() -> None:
    text = contents()
    for topic in (*CODES, *RUN_FIELDS, *STAGE_FIELDS, *REASONS):
        assert topic in text
    assert max(map(len, text.splitlines())) <= 80
    assert {"cache.ttl_s", "65", "stages.hits"} <= set(topics())


def test_the_command_prints_it_and_refuses_what_is_unknown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["explain", "KVS-1300"]) == 0
    assert "CacheRequiredError" in capsys.readouterr().out
    assert run(["explain"]) == 0
    assert "KVS-1999" in capsys.readouterr().out
    assert run(["explain", "nonsense-word"]) == 64
    assert capsys.readouterr().err.startswith("KVS-1001 nothing is known of 'nonsense-word'")
