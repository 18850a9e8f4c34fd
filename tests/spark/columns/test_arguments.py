"""What is given to `score` and `udf` by mistake is said in one line, before Spark does anything."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import kvspark
from kvspark.errors import UsageError
from tests.small_models import Mlp, seeded


@pytest.fixture(scope="module")
def model() -> kvspark.Model:
    return kvspark.Model.from_torch(seeded(Mlp()), {"x": torch.zeros(2, 8)})


def test_the_model_before_the_table_is_told(model: kvspark.Model) -> None:
    rows: Any = object()
    with pytest.raises(UsageError, match="the table comes before the model"):
        kvspark.score(model, rows)  # type: ignore[arg-type]


def test_a_module_is_no_model() -> None:
    module: Any = torch.nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"must be a kvspark\.Model, got Linear; make one with"):
        kvspark.score(None, module)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"must be a kvspark\.Model, got Linear"):
        kvspark.udf(module)


@pytest.mark.parametrize("given", [["x"], "x"])
@pytest.mark.parametrize("name", ["inputs", "outputs"])
def test_what_is_no_dict_is_told_with_what_it_should_be(
    model: kvspark.Model, name: str, given: object
) -> None:
    wrong: dict[str, Any] = {name: given}
    with pytest.raises(UsageError, match=rf"{name} must be a dict .* got {type(given).__name__}"):
        kvspark.score(None, model, **wrong)  # type: ignore[arg-type]


def test_a_plan_by_its_name_is_told_what_it_should_be(model: kvspark.Model) -> None:
    plan: Any = "measured"
    rows: Any = object()
    for call in (
        lambda: kvspark.score(rows, model, plan=plan),
        lambda: kvspark.udf(model, plan=plan),
        lambda: model.predict({"x": []}, plan=plan),
        lambda: kvspark.measured_plan(rows, model, cache="memory://", plan=plan),
    ):
        with pytest.raises(
            UsageError, match=r"plan must be a kvspark\.Plan, got str; make one with"
        ):
            call()
