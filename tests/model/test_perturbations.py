"""What changes a result and is easily forgotten: a bit, a build, a machine."""

from __future__ import annotations

import os
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pytest
import torch

from kvspark.cache.cache import Cache
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.model.features.text import TextFeatures
from kvspark.model.run import numerics
from kvspark.model.run.numerics import numerics_digest
from kvspark.model.stage import stage
from kvspark.model.stage.library import build_of
from tests.model.features.test_text import tokenizer
from tests.small_models import Encoder, Mlp, seeded

INPUTS = {"x": torch.zeros(3, 8)}
ROWS = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))


def hits(model: Model, cache: Cache) -> dict[str, int]:
    """Rows of each stage that `cache` remembers."""
    predictor = Predictor(compiled_plan(model.bundle), cache=cache)
    column = pa.array(ROWS.tolist(), pa.list_(pa.float32()))
    made = predictor.predict({"x": column})
    expected = Predictor(compiled_plan(model.bundle)).predict({"x": column})
    assert all(made[name].equals(expected[name]) for name in made)
    return {name: stats.hits for name, stats in predictor.drain().stages.items()}


@pytest.mark.parametrize("weight", ["trunk.0.weight", "head.bias"])
def test_one_ulp_under_the_same_name_hits_nothing(weight: str) -> None:
    module: Any = seeded(Mlp())
    before = Model.from_torch(module, INPUTS, cuts=["trunk"], name="the same")
    with torch.no_grad():
        flat = module.get_parameter(weight).view(-1)
        flat[2] = torch.nextafter(flat[2], torch.tensor(9.0))
    after = Model.from_torch(module, INPUTS, cuts=["trunk"], name="the same")
    changed = [s.name for s in after.stages if s.fingerprint not in prints(before)]
    assert changed == (["trunk", "output"] if "trunk" in weight else ["output"])
    cache = Cache.connect(f"memory://{uuid4()}", namespace="n")
    assert hits(before, cache) == {"trunk": 0, "output": 0}
    assert hits(before, cache)["output"] == len(ROWS)
    assert hits(after, cache) == {"trunk": 0 if "trunk" in weight else len(ROWS), "output": 0}


def prints(model: Model) -> set[bytes]:
    return {stage.fingerprint for stage in model.stages}


def text_model() -> Model:
    features = TextFeatures(tokenizer().to_str(), max_length=8)
    return Model.from_torch(seeded(Encoder()), features=features, cuts=None)


@pytest.mark.parametrize(("library", "stages"), [("torch", 1), ("tokenizers", 2)])
def test_another_build_of_a_library_is_another_fingerprint(
    monkeypatch: pytest.MonkeyPatch, library: str, stages: int
) -> None:
    before = text_model()
    monkeypatch.setattr(
        stage, "build_of", lambda name: build_of(name) + (" patched" if name == library else "")
    )
    after = text_model()
    # The stage that computes with it, and every one behind.
    assert len(prints(after) - prints(before)) == stages
    assert len(after.stages) == 2


def test_another_machine_or_number_of_threads_has_other_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    digests = {numerics_digest(threads=threads) for threads in (1, 2)}
    monkeypatch.setitem(os.environ, "ONEDNN_MAX_CPU_ISA", "AVX2")
    digests.add(numerics_digest(threads=1))
    monkeypatch.delitem(os.environ, "ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(numerics, "_cpu", lambda: ["GenuineIntel", ["avx2", "fma"]])
    digests.add(numerics_digest(threads=1))
    monkeypatch.setattr(numerics, "is_settled", lambda: False)
    digests.add(numerics_digest(threads=1))
    assert len(digests) == 5
