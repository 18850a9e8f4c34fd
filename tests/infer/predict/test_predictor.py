"""What a predictor does besides being exact: counts, gathering, order, bad rows."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pyarrow as pa
import pytest
import torch

from kvspark.cache.cache import Cache
from kvspark.errors import DataError, SchemaError, UsageError
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spec import MicroBatch
from tests.faults.matrix import covers
from tests.infer.test_exactness import pair_rows, plain, token_rows, towers, vector_rows
from tests.small_models import Encoder, Mlp, encoder_examples, seeded

NAMES = count()


def fresh_cache() -> Cache:
    return Cache.connect(f"memory://predictor-{next(NAMES)}", namespace="tests")


def test_changed_rows_of_many_batches_share_micro_batches() -> None:
    model = plain(Mlp, "trunk").with_micro_batch(MicroBatch(rows=32))
    cache = fresh_cache()
    known = list(range(1000))
    Predictor(compiled_plan(model.bundle), cache=cache).predict({"x": vector_rows(known)})
    batches = [
        (i, {"x": vector_rows([*known[i * 20 : i * 20 + 18], 5000 + 2 * i, 5001 + 2 * i])})
        for i in range(50)
    ]
    predictor = Predictor(compiled_plan(model.bundle), cache=cache)
    assert [tag for tag, _ in predictor.stream(batches)] == list(range(50))
    stats = predictor.drain().stages["output"]
    assert (stats.computed, stats.micro_batches) == (100, 4)


def test_a_batch_of_hits_leaves_at_once() -> None:
    model = plain(Mlp, "trunk")
    cache = fresh_cache()
    rows = {"x": vector_rows([1, 2, 3])}
    Predictor(compiled_plan(model.bundle), cache=cache).predict(rows)
    read = []

    def batches() -> Iterator[tuple[int, dict[str, pa.Array]]]:
        for tag in range(3):
            read.append(tag)
            yield tag, rows

    stream = Predictor(compiled_plan(model.bundle), cache=cache).stream(batches())
    next(stream)
    assert read == [0]


def test_pending_rows_are_bounded() -> None:
    model = plain(Mlp, "trunk")
    read = []

    def batches() -> Iterator[tuple[int, dict[str, pa.Array]]]:
        for tag in range(10):
            read.append(tag)
            yield tag, {"x": vector_rows(list(range(tag * 10, tag * 10 + 10)))}

    plan = Plan(max_pending_rows=25)
    stream = Predictor(compiled_plan(model.bundle, plan)).stream(batches())
    next(stream)
    assert read == [0, 1, 2]


@covers("B12")
def test_held_bytes_are_bounded() -> None:
    model = plain(Mlp, "trunk")
    read = []

    def batches() -> Iterator[tuple[int, dict[str, pa.Array]]]:
        for tag in range(10):
            read.append(tag)
            yield tag, {"x": vector_rows([tag])}

    stream = Predictor(compiled_plan(model.bundle, Plan(max_held_bytes=1))).stream(batches())
    next(stream)
    assert read == [0]


def test_each_tower_is_computed_once_for_each_of_its_rows() -> None:
    predictor = Predictor(compiled_plan(towers().bundle), cache=fresh_cache())
    predictor.predict(pair_rows(list(range(60))))
    stats = predictor.drain().stages
    assert {name: s.computed for name, s in stats.items()} == {"user": 5, "item": 12, "output": 60}


def test_a_retrained_head_runs_no_trunk_and_opens_no_trunk() -> None:
    module = seeded(Mlp())
    inputs, cache = {"x": torch.zeros(3, 8)}, fresh_cache()
    rows = {"x": vector_rows(list(range(20)))}
    Predictor(
        compiled_plan(Model.from_torch(module, inputs, cuts=["trunk"]).bundle), cache=cache
    ).predict(rows)
    with torch.no_grad():
        module.get_parameter("head.weight").add_(1.0)
    retrained = Model.from_torch(module, inputs, cuts=["trunk"])
    predictor = Predictor(compiled_plan(retrained.bundle), cache=cache)
    with_cache = predictor.predict(rows)
    stats = predictor.drain().stages
    assert (stats["trunk"].hits, stats["trunk"].computed, stats["trunk"].weights_loaded) == (
        20,
        0,
        0,
    )
    assert stats["output"].computed == 20
    assert stats["output"].seconds_opened > stats["trunk"].seconds_opened == 0
    assert with_cache["scores"].equals(
        Predictor(compiled_plan(retrained.bundle)).predict(rows)["scores"]
    )


def test_another_number_of_threads_is_another_key() -> None:
    cache, rows = fresh_cache(), {"x": vector_rows([1, 2, 3])}
    bundle = plain(Mlp, "trunk").with_micro_batch(MicroBatch(rows=64)).bundle
    Predictor(compiled_plan(bundle), cache=cache, threads=1).predict(rows)
    two = Predictor(compiled_plan(bundle), cache=cache, threads=2)
    two.predict(rows)
    assert two.drain().stages["output"].hits == 0


def test_lookups_hits_duplicates_and_rows_add_up() -> None:
    model, cache = plain(Mlp, "trunk"), fresh_cache()
    Predictor(compiled_plan(model.bundle), cache=cache).predict({"x": vector_rows([1, 2])})
    predictor = Predictor(compiled_plan(model.bundle), cache=cache)
    predictor.predict({"x": vector_rows([1, 1, 2, 3, 3, 3])})
    run = predictor.drain()
    stats = run.stages["output"]
    assert run.rows == 6
    assert (stats.lookups, stats.hits, stats.duplicates, stats.computed) == (3, 2, 3, 1)
    assert stats.bytes_read > 0
    assert stats.bytes_written > 0
    assert predictor.drain().rows == 0


def test_no_rows_give_no_rows_and_load_nothing() -> None:
    predictor = Predictor(compiled_plan(plain(Mlp, "trunk").bundle), cache=fresh_cache())
    made = predictor.predict({"x": vector_rows([])})
    assert {name: len(values) for name, values in made.items()} == {"scores": 0, "label": 0}
    trunk = predictor.drain().stages["trunk"]
    assert (trunk.weights_loaded, trunk.seconds_opened) == (0, 0)


def test_a_batch_without_rows_among_others_keeps_its_place() -> None:
    predictor = Predictor(compiled_plan(plain(Mlp, "trunk").bundle))
    made = predictor.stream([(i, {"x": vector_rows([1] * n)}) for i, n in enumerate((2, 0, 1))])
    assert [(tag, len(outputs["label"])) for tag, outputs in made] == [(0, 2), (1, 0), (2, 1)]


def test_outputs_per_token_have_the_length_of_their_row() -> None:
    model = Model.from_torch(
        seeded(Encoder(per_token=True)),
        encoder_examples(),
        variable_length=["input_ids", "attention_mask"],
    )
    rows = token_rows([1, 2, 3])
    made = Predictor(compiled_plan(model.bundle)).predict(rows)["output"]
    assert [len(row) for row in made] == [len(row) for row in rows["input_ids"]]


@covers("B11")
@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (
            pa.array([[1.0] * 8, None], pa.list_(pa.float32())),
            r"row 1 of the batch: input 'x' is null; filter",
        ),
        (
            pa.array([[1.0] * 7 + [None]], pa.list_(pa.float32())),
            r"row 0 of the batch: input 'x': nulls inside an array; filter",
        ),
        (
            pa.array([[1.0] * 8, [1.0] * 7], pa.list_(pa.float32())),
            r"row 1 of the batch: .* 7 values where 8 are expected",
        ),
    ],
    ids=["null", "inner-null", "ragged"],
)
def test_a_bad_row_is_a_data_error_that_names_the_input(array: pa.Array, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        Predictor(compiled_plan(plain(Mlp, "trunk").bundle)).predict({"x": array})


@pytest.mark.parametrize(
    "array",
    [pa.array([["a"]]), pa.array([1.0]), pa.array([[1.0] * 8], pa.list_(pa.float64()))],
    ids=["text", "scalar", "double"],
)
def test_a_column_of_another_type_is_a_schema_error(array: pa.Array) -> None:
    with pytest.raises(
        SchemaError, match=r"the column has type .* the model takes list<item: float>"
    ):
        Predictor(compiled_plan(plain(Mlp, "trunk").bundle)).predict({"x": array})


def test_a_missing_input_names_what_is_there() -> None:
    with pytest.raises(SchemaError, match="input 'x' of model 'Mlp' is missing; got y"):
        Predictor(compiled_plan(plain(Mlp, "trunk").bundle)).predict({"y": vector_rows([1])})


def test_inputs_of_one_row_must_have_one_length() -> None:
    model = Model.from_torch(
        seeded(Encoder()), encoder_examples(), variable_length=["input_ids", "attention_mask"]
    )
    rows = token_rows([1, 2])
    with pytest.raises(DataError, match="must agree"):
        Predictor(compiled_plan(model.bundle)).predict(
            {**rows, "attention_mask": rows["attention_mask"][::-1]}
        )


def test_a_plan_for_another_model_is_refused() -> None:
    plan = Plan({"encoder": StagePlan(cached=True)})
    with pytest.raises(UsageError, match="names stage 'encoder'; model 'Mlp' has trunk, output"):
        Predictor(compiled_plan(plain(Mlp, "trunk").bundle, plan))


def test_the_default_plan_caches_outputs_and_fixed_sizes() -> None:
    model = Model.from_torch(
        seeded(Encoder(per_token=True)),
        encoder_examples(),
        cuts=["embed"],
        variable_length=["input_ids", "attention_mask"],
    )
    plan = Plan().for_bundle(model.bundle)
    assert {name: stage.cached for name, stage in plan.stages.items()} == {
        "embed": False,
        "output": True,
    }
