"""What `tune` searches: only what keeps bits, unless it may search more."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kvspark.config.job import JobConfig
from kvspark.infer.model import Model
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.spark.check.opened import plan_of
from kvspark.spark.tuning.options import Job, space_of
from kvspark.spec import MicroBatch
from kvspark.tune.space import Space
from tests.small_models import Mlp, seeded


def space(
    model: Model,
    *,
    other_bits: bool = False,
    has_store: bool = True,
    task_rows: int = 100_000,
    **more: Any,
) -> Space:
    config = JobConfig.checked(
        run={"name": "small"},
        input={"paths": ["rows"]},
        model={"path": "model"},
        output={"path": "out"},
        cache="memory://",
        **more,
    )
    job = Job(
        config,
        model,
        CompiledPlan.of(model.bundle, plan_of(config, model.bundle)),
        cores=4,
        threads=1,
        arrow_rows=10_000,
        task_rows=task_rows,
        has_store=has_store,
        is_own_session=True,
    )
    return space_of(job, allows_other_bits=other_bits)


@pytest.fixture(scope="module")
def wide() -> Model:
    """A trunk of 64 floats a row."""
    trunk = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.ReLU())
    net = torch.nn.Sequential(trunk, torch.nn.Linear(64, 2))
    return Model.from_torch(seeded(net), {"input": torch.zeros(2, 8)}, cuts=["0"], name="wide")


def choices(space: Space) -> dict[str, list[str]]:
    return {option.name: [each.text for each in option.choices] for option in space.options}


def test_without_leave_nothing_that_changes_bits_is_searched(wide: Model):
    found = space(wide)
    assert not any(choice.changes_bits for option in found.options for choice in option.choices)
    assert choices(found) == {
        "rows of an Arrow batch": ["10,000 (as it is)", "1,000", "4,000", "40,000"],
        "codec of 0": ["raw (as it is)", "zstd", "lz4"],
        "overlap with the store": ["off (as it is)", "32 MiB"],
        "threads a task": ["1 (as it is)", "2", "4"],
    }


def test_with_leave_each_choice_that_changes_bits_is_marked(wide: Model):
    found = space(wide, other_bits=True)
    marked = {
        option.name: [each.text for each in option.choices if each.changes_bits]
        for option in found.options
    }
    assert marked["codec of 0"] == ["bf16", "fp16", "int8"]
    assert marked["rows of a call"] == ["32", "64", "128", "256", "1024"]
    assert marked["threads a task"] == []


def test_threads_change_bits_where_a_call_has_rows_for_them(wide: Model):
    model = wide.with_micro_batch(MicroBatch(rows=64))
    assert "threads a task" not in choices(space(model))
    (threads,) = (o for o in space(model, other_bits=True).options if o.name == "threads a task")
    assert [(each.text, each.changes_bits) for each in threads.choices[1:]] == [
        ("2", True),
        ("4", True),
    ]


def test_without_a_store_no_codec_and_no_overlap_is_searched(wide: Model):
    assert choices(space(wide, has_store=False)).keys() == {
        "rows of an Arrow batch",
        "threads a task",
    }


def test_a_stage_that_the_conf_does_not_name_stays_cached_with_its_codec(wide: Model):
    (codec,) = (option for option in space(wide).options if option.name == "codec of 0")
    assert dict(codec.choices[1].sets) == {
        ("plan", "stages", "0", "cached"): True,
        ("plan", "stages", "0", "codec"): "zstd",
    }
    named = space(wide, plan={"stages": {"0": {"cached": True, "codec": "lz4"}}})
    (codec,) = (option for option in named.options if option.name == "codec of 0")
    assert [each.text for each in codec.choices] == ["lz4 (as it is)", "raw", "zstd"]
    assert dict(codec.choices[1].sets) == {("plan", "stages", "0", "codec"): "raw"}


def test_a_small_result_is_worth_no_codec():
    model = Model.from_torch(seeded(Mlp()), {"x": torch.zeros(4, 8)}, cuts=["trunk"], name="mlp")
    sizes = {stage.name: stage.bytes_per_row or 0 for stage in model.stages}
    coded = {name for name in choices(space(model)) if name.startswith("codec")}
    assert coded == {f"codec of {name}" for name, size in sizes.items() if size >= 64}


def test_rows_of_an_arrow_batch_that_no_task_has_are_not_searched(wide: Model):
    assert choices(space(wide, task_rows=5_000))["rows of an Arrow batch"] == [
        "10,000 (as it is)",
        "1,000",
        "4,000",
    ]
    assert "rows of an Arrow batch" not in choices(space(wide, task_rows=500))
