"""From which columns a model input is made, as a conf and Python write it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from kvspark.config.inputs import InputColumns, InputPart, input_columns
from kvspark.config.job import JobConfig
from kvspark.errors import UsageError


def job(**inputs: Any) -> JobConfig:
    return JobConfig.checked(
        run={"name": "nightly"},
        input={"paths": ["in"]},
        model={"path": "bundle"},
        output={"path": "out"},
        inputs=inputs,
    )


def test_a_text_is_a_column_and_a_list_is_joined() -> None:
    plain = input_columns("x", "a")
    assert plain.is_plain
    joined = input_columns(
        "x", ["a", {"column": "b", "default": 0.0}, {"expr": "c + 1", "cast": "float32"}]
    )
    assert not joined.is_plain
    assert joined.parts == (
        InputPart(column="a"),
        InputPart(column="b", default=0.0),
        InputPart(expr="c + 1", cast="float"),
    )


def test_cast_and_default_of_the_whole_are_those_of_each_part_without_its_own() -> None:
    parts = input_columns(
        "x",
        {
            "columns": ["a", {"column": "b", "cast": "double", "default": 1}],
            "cast": "float",
            "default": 0,
        },
    ).parts
    assert [(part.cast, part.default) for part in parts] == [("float", 0), ("double", 1)]


def test_a_plain_column_gives_the_run_id_that_it_always_gave() -> None:
    assert job(x="col").run_id() == "nightly-" + job(x={"column": "col"}).run_id()[-12:]
    assert job(x="col").model_dump(mode="json")["inputs"] == {"x": "col"}
    assert job(x=["a", "b"]).model_dump(mode="json")["inputs"] == {"x": ["a", "b"]}


def test_it_is_a_frozen_value() -> None:
    made = input_columns("x", ["a", {"column": "b", "default": float("nan")}])
    assert pickle.loads(pickle.dumps(made)).parts[0] == InputPart(column="a")
    assert hash(input_columns("x", ["a", "b"])) == hash(InputColumns.checked(columns=["a", "b"]))


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"colum": "a"}, "unknown key inputs.x.colum; did you mean inputs.x.column?"),
        ({"column": "a", "default": [0]}, "inputs.x.default: expected one value, got a list"),
        (["a", {"column": "b", "default": {}}], "columns.1.default: expected one value, got a map"),
        (["a", {"column": "b", "defalt": 0}], "did you mean inputs.x.columns.1.default?"),
        ([], "inputs.x.columns: expected something that is not empty"),
        ({"column": "a", "expr": "b"}, "name one of column, columns and expr"),
        (["a", {"cast": "float"}], "name either a column or an expr"),
        ({"column": "a", "cast": "flot"}, "inputs.x.cast: expected one of"),
        (["a", 1.5], "inputs.x.columns.1: expected a mapping"),
        (None, "inputs.x: expected a mapping"),
    ],
)
def test_what_is_wrong_is_told_with_its_path(written: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        input_columns("x", written)
    assert message in str(caught.value)
