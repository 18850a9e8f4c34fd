"""YAML 1.2's scalars, no key twice, nothing but plain values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kvspark.config.reading.document import parse_document, read_document
from kvspark.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("2026-01-01", "2026-01-01"),
        ("007", "007"),
        ("12:30:00", "12:30:00"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("42", 42),
        ("-42", -42),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("'42'", "42"),
        ("~", None),
        ("null", None),
        ("", None),
        ("redis://127.0.0.1:1", "redis://127.0.0.1:1"),
        ("[a, 1, {b: [true]}]", ["a", 1, {"b": [True]}]),
        ("{1: a, true: b}", {"1": "a", "true": "b"}),
    ],
)
def test_a_scalar_is_what_yaml_1_2_says(text: str, value: Any) -> None:
    read = parse_document(text, "conf").value
    assert read == value
    assert type(read) is type(value)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(PLAIN)
def test_what_pyyaml_writes_in_quotes_is_read_back(value: Any) -> None:
    text = yaml.safe_dump(value, default_style='"')
    assert parse_document(text, "conf").value == _as_text(value)


def _as_text(value: Any) -> Any:
    """In quotes every key is text; the scalars keep their tags."""
    if isinstance(value, dict):
        return {key: _as_text(item) for key, item in value.items()}
    return [_as_text(item) for item in value] if isinstance(value, list) else value


def test_every_value_knows_its_line() -> None:
    document = parse_document("a: 1\nb:\n  c: 2\n  d: [x,\n    y]\n", "conf")
    assert document.lines["a",] == 1
    assert document.lines["b", "c"] == 3
    assert document.lines["b", "d", "1"] == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "conf line 3: a is written twice (first on line 1); keep one"),
        ("x:\n  a: 1\n  a: 2", "conf line 3: x.a is written twice (first on line 2); keep one"),
        ("a: [1,", "conf line 1: this is not YAML"),
        ("a: 1\n b: 2", "conf line 2: this is not YAML"),
        ("a:\n\tb: 1", "conf line 2: this is not YAML (a tab; indent with spaces)"),
        ("a:\tb", "conf line 1: this is not YAML (a tab; indent with spaces)"),
        ("a: !!python/object/apply:os.getcwd []", "conf line 1: a tag like !x is refused"),
        ("a: !!python/name:os.getcwd x", "conf line 1: a tag like !x is refused"),
        ("a: !!set {x: null}", "conf line 1: a tag like !x is refused"),
        ("a: !!int x", "conf line 1: a tag like !x is refused"),
        ("a: !secret x", "conf line 1: a tag like !x is refused"),
        ("[a]: 1", "conf line 1: a key must be text"),
        ("a: 1\n---\nb: 2", "conf line 2: this is not YAML"),
        ("a: &x [*x]", "conf: this is not YAML that can be read"),
    ],
)
def test_what_is_not_plain_yaml_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_document(text, "conf")
    assert message in str(caught.value)


def test_a_broken_line_is_not_quoted() -> None:
    with pytest.raises(UsageError) as caught:
        parse_document("password: *hunter2", "conf")
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_says_where_an_example_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone.yaml does not exist; conf/score.yaml"):
        read_document(tmp_path / "gone.yaml")


def test_a_folder_is_not_a_conf(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_document(tmp_path)


def test_a_file_in_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("a: é".encode("latin-1"))
    with pytest.raises(UsageError, match="not UTF-8"):
        read_document(path)
