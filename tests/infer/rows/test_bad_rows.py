"""Bad rows are set aside, and nothing else changes by a bit."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache as once
from io import BytesIO
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from kvspark.cache.cache import Cache
from kvspark.errors import DataError, RowError, UsageError
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.infer.rows.bad_rows import BadRow
from kvspark.model.features.image import ImageFeatures
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spec import MicroBatch, TensorSpec
from tests.faults.matrix import covers
from tests.infer.test_exactness import bits_of, plain, towers, vector_rows
from tests.small_models import Encoder, Mlp, encoder_examples, seeded

NAMES = count()
VOCABULARY = 50


def fresh_cache() -> Cache:
    return Cache.connect(f"memory://bad-rows-{next(NAMES)}", namespace="tests")


@once
def encoder() -> Model:
    """Rows of tokens; a token that is not in its table makes it raise."""
    return Model.from_torch(
        seeded(Encoder()),
        encoder_examples(),
        cuts=["layer"],
        variable_length=["input_ids", "attention_mask"],
        micro_batch=MicroBatch(rows=32, tokens=1024),
    )


@once
def pictures() -> Model:
    class Shades(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.nn.Linear(3, 2)

        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return self.head(pixel_values.mean((2, 3)))

    features = ImageFeatures(size=4, mean=(0.5,) * 3, std=(0.5,) * 3)
    return Model.from_torch(seeded(Shades()), features=features, cuts=None)


def ids(seed: int) -> list[int]:
    made: list[int] = np.random.default_rng(seed).integers(0, VOCABULARY, 1 + seed % 30).tolist()
    return made


def token_rows(seeds: list[int], bad: dict[int, int]) -> dict[str, pa.Array]:
    rows: list[Any] = [ids(seed) for seed in seeds]
    masks: list[Any] = [[1] * len(row) for row in rows]
    for place, how in bad.items():
        if how == 0:
            rows[place] = [*rows[place][:-1], VOCABULARY + 7]
        elif how == 1:
            rows[place] = None
        else:
            masks[place] = [1] * (len(rows[place]) + 1)
    type_ = pa.list_(pa.int64())
    return {"input_ids": pa.array(rows, type_), "attention_mask": pa.array(masks, type_)}


def vectors(seeds: list[int], bad: dict[int, int]) -> dict[str, pa.Array]:
    rows = vector_rows(seeds).to_pylist()
    for place, how in bad.items():
        rows[place] = (None, rows[place][:-1], [*rows[place][:-1], None])[how]
    return {"x": pa.array(rows, pa.list_(pa.float32()))}


def png(seed: int) -> bytes:
    into = BytesIO()
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).save(into, "PNG")
    return into.getvalue()


def picture_rows(seeds: list[int], bad: dict[int, int]) -> dict[str, pa.Array]:
    rows: list[bytes | None] = [png(seed) for seed in seeds]
    for place, how in bad.items():
        rows[place] = (None, b"?", png(seeds[place])[:60])[how]
    return {"image": pa.array(rows, pa.binary())}


CASES: dict[
    str, tuple[Callable[[], Model], Callable[[list[int], dict[int, int]], dict[str, pa.Array]]]
] = {
    "encoder": (encoder, token_rows),
    "mlp": (lambda: plain(Mlp, "trunk"), vectors),
    "pictures": (pictures, picture_rows),
}

seed_lists = st.lists(st.integers(0, 40), min_size=1, max_size=40)
bad_places = st.dictionaries(st.integers(0, 39), st.integers(0, 2))


@covers("B22")
@pytest.mark.parametrize("case", CASES)
@settings(deadline=None)
@given(
    seeds=seed_lists,
    bad=bad_places,
    warmed=seed_lists,
    bits=st.integers(0, 7),
    size=st.integers(1, 40),
)
def test_the_good_rows_have_the_bits_of_a_table_without_the_bad_ones(
    case: str, seeds: list[int], bad: dict[int, int], warmed: list[int], bits: int, size: int
) -> None:
    make, rows_of = CASES[case]
    model, cache = make(), fresh_cache()
    bad = {place: how for place, how in bad.items() if place < len(seeds)}
    plan = Plan(
        {stage.name: StagePlan(bool(bits >> i & 1)) for i, stage in enumerate(model.stages)},
        max_pending_rows=16,
    )
    Predictor(compiled_plan(model.bundle, plan), cache=cache).predict(rows_of(warmed, {}))
    good = [place for place in range(len(seeds)) if place not in bad]
    expected = Predictor(compiled_plan(model.bundle)).predict(
        rows_of([seeds[place] for place in good], {})
    )
    table = pa.table(rows_of(seeds, bad))
    predictor = Predictor(compiled_plan(model.bundle, plan), cache=cache)
    for _ in range(2):  # the second time good rows are hits, and bad ones still bad
        batches = [
            (
                start,
                dict(
                    zip(
                        table.column_names,
                        table[start : start + size].combine_chunks().columns,
                        strict=True,
                    )
                ),
            )
            for start in range(0, len(seeds), size)
        ]
        made = list(predictor.stream_apart(batches))
        found = {start + row for start, _, told in made for row in told}
        assert found == set(bad)
        for spec in model.outputs:
            rows = pa.concat_arrays([outputs[spec.name] for _, outputs, _ in made])
            assert set(np.flatnonzero(rows.is_null())) == set(bad)
            assert bits_of(rows.drop_null()) == bits_of(expected[spec.name])
    assert predictor.drain().bad_row_count == 2 * len(bad)


def test_bad_rows_are_never_inserted_and_good_ones_are() -> None:
    cache = fresh_cache()
    rows = token_rows(list(range(40)), {3: 0, 20: 0})
    first = Predictor(compiled_plan(encoder().bundle), cache=cache)
    list(first.stream_apart([(None, rows)]))
    assert first.drain().stages["output"].computed == 38
    second = Predictor(compiled_plan(encoder().bundle), cache=cache)
    ((_, _, bad),) = second.stream_apart([(None, rows)])
    stats = second.drain().stages["output"]
    assert (stats.hits, stats.computed, sorted(bad)) == (38, 0, [3, 20])


def test_a_repeated_bad_row_is_tried_once_a_window_and_bad_everywhere() -> None:
    rows = token_rows([1, 2, 1, 1], {})
    bad_ids = pa.array([[VOCABULARY], [1], [VOCABULARY], [VOCABULARY]], pa.list_(pa.int64()))
    rows = {"input_ids": bad_ids, "attention_mask": pa.array([[1]] * 4, pa.list_(pa.int64()))}
    predictor = Predictor(compiled_plan(encoder().bundle))
    batches = [(0, rows), (1, rows)]
    assert [sorted(bad) for _, _, bad in predictor.stream_apart(batches)] == [[0, 2, 3]] * 2
    assert predictor.drain().bad_rows == {"layer": {"IndexError": 6}}


def test_a_bad_tower_spoils_the_pairs_that_hold_it_and_no_others() -> None:
    def rows(users: list[int]) -> dict[str, pa.Array]:
        return {"user": vector_rows(users), "item": vector_rows(list(range(len(users))), 6)}

    given = rows([1, 2, 1, 3])
    given["user"] = pa.array(
        [v if i != 1 else None for i, v in enumerate(given["user"].to_pylist())], given["user"].type
    )
    ((_, made, bad),) = Predictor(compiled_plan(towers().bundle), cache=fresh_cache()).stream_apart(
        [(None, given)]
    )
    assert bad == {1: BadRow("input", "NullValue", "input 'user' is null")}
    whole = (
        Predictor(compiled_plan(towers().bundle)).predict(rows([1, 2, 1, 3]))["output"].to_pylist()
    )
    assert made["output"].to_pylist() == [whole[0], None, whole[2], whole[3]]


@pytest.mark.parametrize("every", [1, 2], ids=["all", "every-second"])
def test_thousands_of_bad_rows_cost_no_more_than_two_calls_a_row(every: int) -> None:
    many = 1_000
    tokens = pa.array(
        [
            [VOCABULARY + i if i % every == 0 else i % VOCABULARY, i % 50, i // 50 % 50]
            for i in range(many)
        ],
        pa.list_(pa.int64()),
    )
    rows = {"input_ids": tokens, "attention_mask": pa.array([[1] * 3] * many, pa.list_(pa.int64()))}
    predictor = Predictor(compiled_plan(encoder().bundle))
    ((_, made, bad),) = predictor.stream_apart([(None, rows)])
    assert len(bad) == many // every == made["output"].null_count
    calls = sum(stage.micro_batches for stage in predictor.drain().stages.values())
    assert calls <= 2 * many + many // 32


# ---------------------------------------------------------------- what a caller sees


def embedder() -> Model:
    return encoder()


def test_predict_masks_bad_rows() -> None:
    rows = token_rows([4, 5, 6], {1: 0})
    made = embedder().predict(rows, on_bad_row="null")["output"]
    assert isinstance(made, np.ma.MaskedArray)
    assert np.all(made.mask, axis=1).tolist() == [False, True, False]
    assert np.isnan(made.data[1]).all()
    whole = embedder().predict(token_rows([4, 5, 6], {}))["output"]
    assert made[[0, 2]].tobytes() == whole[[0, 2]].tobytes()


def test_predict_tells_bad_rows_from_good_ones() -> None:
    made = embedder().predict(token_rows([4, 5, 6], {2: 0, 0: 1}), on_bad_row="quarantine")
    told = made["_kvspark_error"]
    assert [why and (why.stage, why.error) for why in told] == [
        ("input", "NullValue"),
        None,
        ("layer", "IndexError"),
    ]


def test_predict_refuses_a_choice_that_is_none() -> None:
    with pytest.raises(UsageError, match="on_bad_row must be one of error, null, quarantine"):
        embedder().predict(token_rows([1], {}), on_bad_row="skip")  # type: ignore[arg-type]


def test_outputs_of_varying_length_hold_none_for_a_bad_row() -> None:
    model = Model.from_torch(
        seeded(Encoder(per_token=True)),
        encoder_examples(),
        variable_length=["input_ids", "attention_mask"],
    )
    made = model.predict(token_rows([4, 5, 6], {1: 0}), on_bad_row="null")["output"]
    assert [None if row is None else len(row) for row in made] == [5, None, 7]


@covers("B22")
def test_by_default_the_row_on_which_the_model_raises_is_named() -> None:
    with pytest.raises(
        RowError, match=r"row 5 of the batch: stage 'layer': id 57 outside 0\.\.49; filter"
    ) as bad:
        embedder().predict(token_rows(list(range(9)), {5: 0}))
    assert isinstance(bad.value.__cause__, IndexError)
    assert bad.value.exit_code == 65
    assert isinstance(bad.value, DataError)


@pytest.mark.parametrize(
    ("spec", "values", "bad"),
    [
        (TensorSpec("x", "uint8"), [1, None, 300, 255], {1: "NullValue", 2: "WrongValue"}),
        (
            TensorSpec("x", "float32", (2,)),
            [[1, 2], [1], None, [3, 4]],
            {1: "WrongValue", 2: "NullValue"},
        ),
        (
            TensorSpec("x", "float32", (1, 2)),
            [[[1, 2]], [], [[1, 2], [3, 4]], [[1]]],
            {1: "WrongValue", 2: "WrongValue", 3: "WrongValue"},
        ),
        (
            TensorSpec("x", "float32", (None, 2)),
            [[[1, 2]], [], [[1]], [[3, None]]],
            {2: "WrongValue", 3: "WrongValue"},
        ),
        (TensorSpec("x", "bfloat16"), [1.0, 1.0001], {1: "WrongValue"}),
    ],
    ids=["uint8", "shape", "nested", "ragged", "bfloat16"],
)
def test_values_that_are_not_the_inputs_are_bad_rows(
    spec: TensorSpec, values: list[Any], bad: dict[int, str]
) -> None:
    from kvspark.infer.rows.arrow import arrow_type
    from kvspark.infer.rows.readable import readable

    found = readable({"x": pa.array(values, arrow_type(spec))}, (spec,), len(values))
    assert {row: why.error for row, why in found.bad.items()} == bad
    assert {why.stage for why in found.bad.values()} == {"input"}
    assert found.good.tolist() == [row for row in range(len(values)) if row not in bad]
    assert len(found.columns["x"]) == len(found.good)


def test_a_batch_of_bad_rows_alone_gives_nulls() -> None:
    predictor = Predictor(compiled_plan(plain(Mlp, "trunk").bundle), cache=fresh_cache())
    batches = [(i, vectors([1, 2], {0: 0, 1: 1})) for i in range(2)]
    for _, made, bad in predictor.stream_apart(batches):
        assert sorted(bad) == [0, 1]
        assert all(array.null_count == 2 for array in made.values())
    assert predictor.drain().stages["trunk"].weights_loaded == 0
