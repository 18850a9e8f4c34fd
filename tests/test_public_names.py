"""The public names: each can be had, and takes what is optional by keyword."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any

import numpy as np
import pytest
import torch

import kvspark
from kvspark.config.section.base import Section
from tests.small_models import Mlp, seeded

DATA = {"Model.from_torch(example_inputs)", "Tally.__init__(spark)", "Model.__init__(own_runtime)"}
"""What may be left out and is data all the same, or the one thing that is asked for."""


def functions() -> Iterator[tuple[str, Any]]:
    """The public functions and the public methods of public classes, by name."""
    for name in kvspark.__all__:
        value = getattr(kvspark, name)
        if inspect.isfunction(value):
            yield name, value
        if inspect.isclass(value) and not (is_dataclass(value) or issubclass(value, Section)):
            for method, found in inspect.getmembers(value, callable):
                is_ours = str(getattr(found, "__module__", "")).startswith("kvspark")
                if is_ours and (method == "__init__" or not method.startswith("_")):
                    yield f"{name}.{method}", found


def test_every_public_name_can_be_had():
    assert kvspark.__all__ == sorted(kvspark.__all__)
    for name in kvspark.__all__:
        assert getattr(kvspark, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'scor'"):
        getattr(kvspark, "sc" + "or")


def test_what_is_optional_is_given_by_keyword():
    optional = {
        f"{name}({parameter.name})"
        for name, function in functions()
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        and parameter.default is not parameter.empty
    }
    assert optional - DATA == set()
    assert optional >= DATA


def test_a_model_says_itself_why_another_one_misses(tmp_path):
    before = kvspark.Model.from_torch(seeded(Mlp()), {"x": torch.zeros(2, 8)}, cuts=["trunk"])
    module: Any = seeded(Mlp())
    with torch.no_grad():
        module.head.bias += 1
    after = kvspark.Model.from_torch(module, {"x": torch.zeros(2, 8)}, cuts=["trunk"])
    told = before.explain_miss(after)
    assert told == kvspark.explain_miss(before, after)
    assert [line.partition(":")[0] for line in told.splitlines()] == ["trunk", "output"]
    after.save(tmp_path / "model")
    opened = kvspark.Model.open(tmp_path / "model", micro_batch=kvspark.MicroBatch(rows=64))
    assert opened.fingerprint == after.with_micro_batch(kvspark.MicroBatch(rows=64)).fingerprint
    rows = {"x": np.ones((3, 8), "f4")}
    assert kvspark.Model.open(tmp_path / "model").predict(rows)["label"].shape[0] == 3


def test_programs_written_for_0_1_still_find_run_score() -> None:
    from kvspark.spark import job
    from kvspark.spark.jobs.job import run_score

    assert job.run_score is run_score
