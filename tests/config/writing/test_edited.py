"""A YAML text that is changed in place says what it should, and keeps what a person wrote."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kvspark.config.reading.document import parse_document
from kvspark.config.writing.edited import Plain, edited
from kvspark.config.writing.tuned_conf import changed_tree
from kvspark.errors import UsageError

KEYS = st.sampled_from(["model", "spark", "conf", "spark.task.cpus", "plan", "yes", "a b", "rows"])
VALUES = st.one_of(
    st.integers(0, 10**6),
    st.booleans(),
    st.none(),
    st.sampled_from(["zstd", "no", "1", "a: b", ""]),
)
TREES = st.dictionaries(
    KEYS,
    st.one_of(VALUES, st.dictionaries(KEYS, st.one_of(VALUES, st.dictionaries(KEYS, VALUES)))),
)
CHANGES = st.dictionaries(st.lists(KEYS, min_size=3, max_size=3).map(tuple), VALUES, max_size=4)
SHAPES = st.sampled_from([None, True, False])


def written(tree: Any, is_flow: bool | None) -> str:
    # Of a small width, so that flow mappings go over several lines.
    return yaml.safe_dump(tree, default_flow_style=is_flow, width=30, sort_keys=False)


@given(TREES, CHANGES, SHAPES)
def test_a_changed_text_says_what_the_changed_values_are(
    tree: dict[str, Any], changes: dict[tuple[str, ...], Plain], shape: bool | None
):
    text = written(tree, shape)
    plain = parse_document(text, "text").value
    try:
        made = edited(text, changes, note="tuned")
    except UsageError:
        # A value stands where a mapping is needed.
        return
    assert parse_document(made, "made").value == changed_tree(plain, changes)


def test_comments_order_and_all_other_lines_stay():
    text = """# ours
run: {name: churn} # the name

model:
  path: ../model # what model.py saves
  # micro_batch: none yet

spark:
  conf:
    spark.executor.memory: 4g # enough

# the end
"""
    made = edited(
        text,
        {
            ("spark", "conf", "spark.task.cpus"): 2,
            ("spark", "conf", "spark.executor.memory"): "8g",
            ("model", "micro_batch", "rows"): 64,
        },
        note="tuned",
    )
    kept = [line for line in text.splitlines() if "executor.memory" not in line]
    assert [line for line in made.splitlines() if line in kept] == kept
    assert (
        "    spark.executor.memory: 8g # enough\n    spark.task.cpus: 2 # tuned\n"
        in made.replace('"8g"', "8g")
    )
    assert "  micro_batch:\n    rows: 64 # tuned\n" in made


def test_a_cache_that_is_only_a_url_becomes_a_mapping():
    made = edited('cache: "redis://h:1" # shared\n', {("cache", "overlap_bytes"): 5})
    assert made == 'cache: {url: "redis://h:1", overlap_bytes: 5} # shared\n'


def test_a_section_with_nothing_in_it_gets_its_first_key():
    assert edited("model:\nrun: {}\n", {("model", "dtype"): "bf16"}).startswith(
        "model: {dtype: bf16}"
    )
    assert edited("", {("model", "dtype"): "bf16"}) == "model:\n  dtype: bf16\n"


def test_a_value_in_the_place_of_a_mapping_is_refused():
    with pytest.raises(UsageError, match=r"model\.dtype is one value"):
        edited("model: {dtype: x}", {("model", "dtype", "of"): 1})
