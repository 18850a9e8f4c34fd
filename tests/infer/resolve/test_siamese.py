"""One encoder that is called on the left and on the right: two stages with one address."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kvspark.cache.cache import Cache
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.infer.rows.array_columns import arrow_columns
from kvspark.model.torch.candidates import find_candidates
from kvspark.model.torch.export import export_module
from kvspark.model.torch.work import works_of
from kvspark.plan.plan import Plan
from kvspark.spec import MicroBatch
from kvspark.stats import StageStats
from tests.small_models import seeded

ROWS = 32
"""As many as a call has, so that eager torch computes in the same shape."""
LENGTH = 12
NAMES = count()


class Encoder(nn.Module):
    """A sentence as the mean of what its tokens become."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, width)
        self.layers = nn.Sequential(
            nn.Linear(width, 128), nn.GELU(), nn.Linear(128, width), nn.LayerNorm(width)
        )

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weight = mask.unsqueeze(-1).float()
        hidden = self.layers(self.embed(ids)) * weight
        return hidden.sum(1) / weight.sum(1).clamp(min=1.0)


class Siamese(nn.Module):
    """How much two sentences agree, and a head on their difference."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(64, 2)

    def forward(
        self,
        left: torch.Tensor,
        left_mask: torch.Tensor,
        right: torch.Tensor,
        right_mask: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        one, other = self.encoder(left, left_mask), self.encoder(right, right_mask)
        agreement = nn.functional.cosine_similarity(one, other)
        return {"agreement": agreement, "scores": self.head(one - other)}


Sentences = tuple[np.ndarray, np.ndarray]


def sentences(seed: int, rows: int = ROWS) -> Sentences:
    chance = np.random.default_rng(seed)
    lengths = chance.integers(1, LENGTH + 1, rows)
    mask = (np.arange(LENGTH) < lengths[:, None]).astype(np.int64)
    return chance.integers(1, 100, (rows, LENGTH)) * mask, mask


def pairs(left: Sentences, right: Sentences) -> dict[str, np.ndarray]:
    names = ("left", "left_mask", "right", "right_mask")
    return dict(zip(names, (*left, *right), strict=True))


def tensors(rows: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(row) for name, row in rows.items()}


EXAMPLES = tensors(pairs(sentences(1, 3), sentences(2, 3)))


def siamese() -> Model:
    return Model.from_torch(seeded(Siamese()), EXAMPLES, micro_batch=MicroBatch())


def scored(
    model: Model, rows: dict[str, np.ndarray], cache: Cache | None = None
) -> tuple[dict[str, bytes], dict[str, StageStats]]:
    """The bits of the outputs, and what the stages of a new worker did."""
    predictor = Predictor(compiled_plan(model.bundle), cache=cache)
    made = predictor.predict(arrow_columns(rows, model.inputs))
    bits = {name: str(array.to_pylist()).encode() for name, array in made.items()}
    return bits, dict(predictor.drain().stages)


def test_both_calls_are_found_and_have_one_address_and_one_copy_of_the_weights(
    tmp_path: Path,
) -> None:
    model = siamese()
    left, right, last = model.stages
    assert [left.name, right.name] == ["encoder@0", "encoder@1"]
    assert [left.inputs, right.inputs] == [("left", "left_mask"), ("right", "right_mask")]
    assert left.fingerprint == right.fingerprint != last.fingerprint
    model.save(tmp_path / "model")
    assert sorted(each.name for each in (tmp_path / "model/stages").iterdir()) == [
        "encoder@0",
        last.name,
    ]
    assert [s.fingerprint for s in Model.load(tmp_path / "model").stages] == [
        s.fingerprint for s in model.stages
    ]


def test_the_bits_are_those_of_eager_torch() -> None:
    rows = pairs(sentences(3), sentences(4))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            eager = seeded(Siamese())(**tensors(rows))
    finally:
        torch.set_num_threads(before)
    made = siamese().predict(rows, threads=1)
    assert {name: value.tobytes() for name, value in made.items()} == {
        name: value.numpy().tobytes() for name, value in eager.items()
    }


def test_what_one_night_encoded_on_the_left_is_found_on_the_right() -> None:
    cache = Cache.connect(f"memory://siamese-{next(NAMES)}", namespace="tests")
    one, other = sentences(5), sentences(6)
    first, stats = scored(siamese(), pairs(one, other), cache)
    assert [stats[name].computed for name in ("encoder@0", "encoder@1")] == [ROWS, ROWS]
    swapped, stats = scored(siamese(), pairs(other, one), cache)
    for name in ("encoder@0", "encoder@1"):
        assert (stats[name].hits, stats[name].computed) == (ROWS, 0)
    assert first == scored(siamese(), pairs(one, other))[0]
    assert swapped == scored(siamese(), pairs(other, one))[0]


def test_what_is_on_both_sides_of_a_window_is_encoded_once() -> None:
    one, other = sentences(7), sentences(8)
    is_odd = np.arange(ROWS)[:, None] % 2 == 1
    mixed = (np.where(is_odd, one[0], other[0]), np.where(is_odd, one[1], other[1]))
    _, stats = scored(siamese(), pairs(one, mixed))
    assert (stats["encoder@0"].computed, stats["encoder@0"].weights_loaded) == (ROWS, 1)
    assert (stats["encoder@1"].computed, stats["encoder@1"].recalled) == (ROWS // 2, ROWS // 2)
    assert stats["encoder@1"].weights_loaded == 0


def test_without_memory_each_side_is_encoded_for_itself() -> None:
    model, rows = siamese(), pairs(sentences(9), sentences(9))
    predictor = Predictor(compiled_plan(model.bundle, Plan(memo_bytes=0)))
    predictor.predict(arrow_columns(rows, model.inputs))
    stats = predictor.drain().stages
    assert [stats[name].computed for name in ("encoder@0", "encoder@1")] == [ROWS, ROWS]


def test_a_cut_names_one_call_or_all_of_them() -> None:
    def names(*cuts: str) -> list[tuple[str, int]]:
        stages = Model.from_torch(seeded(Siamese()), EXAMPLES, cuts=cuts).stages[:-1]
        return [(stage.name, len(stage.outputs)) for stage in stages]

    assert names("encoder") == [("encoder", 2)]
    assert names("encoder@1") == [("encoder@1", 1)]
    assert names("encoder.layers@0", "encoder@1") == [("encoder.layers@0", 1), ("encoder@1", 1)]


@pytest.mark.parametrize("calls", [2, 3])
def test_an_encoder_may_be_called_any_number_of_times(calls: int) -> None:
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def forward(self, **rows: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.net(row) for row in rows.values()]).sum(0)

    examples = {f"x{call}": torch.zeros(3, 8) for call in range(calls)}
    towers = Model.from_torch(seeded(Several()), examples).stages[:-1]
    assert [s.name for s in towers] == [f"net@{call}" for call in range(calls)]
    assert len({s.fingerprint for s in towers}) == 1


def test_encoders_with_weights_of_their_own_have_addresses_of_their_own() -> None:
    class Two(Siamese):
        def __init__(self) -> None:
            super().__init__()
            self.other = Encoder()

        def forward(
            self,
            left: torch.Tensor,
            left_mask: torch.Tensor,
            right: torch.Tensor,
            right_mask: torch.Tensor,
        ) -> dict[str, torch.Tensor]:
            one, other = self.encoder(left, left_mask), self.other(right, right_mask)
            return {"scores": self.head(one - other)}

    left, right, _ = Model.from_torch(seeded(Two()), EXAMPLES).stages
    assert (left.name, right.name) == ("encoder", "other")
    assert left.fingerprint != right.fingerprint


def test_a_layer_that_is_called_again_behind_itself_is_no_tower() -> None:
    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(8, 8)

        def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            return self.layer(self.layer(left + right))

    given = {"left": torch.zeros(3, 8), "right": torch.zeros(3, 8)}
    exported = export_module(seeded(Again()), given, [])
    assert not [c.path for c in find_candidates(exported, works_of(exported)) if "@0" in c.path]
