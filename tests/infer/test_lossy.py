"""Rounded stages: other results than the exact ones, and the same for any pattern of hits."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kvspark.cache.entry.lossy import LOSSY_NAMES, lossy_named
from kvspark.errors import LossyCodecError, UsageError
from kvspark.infer.checks.lossy_probe import probe
from kvspark.infer.erasure import identities_of_rows
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.budget import within_budget
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.model.run.numerics import place_of
from kvspark.plan.plan import Plan, StagePlan
from tests.infer.test_exactness import (
    CASES,
    bits_of,
    fresh_cache,
    hit_patterns,
    plain,
    seed_lists,
    vector_rows,
)
from tests.small_models import Mlp, seeded

BF16 = Plan({"trunk": StagePlan(cached=True, codec="bf16")})


def lossy_plan(model: Model, codecs: tuple[str, ...], bits: int) -> Plan:
    """A plan that rounds the stages that can be, and caches those whose bit is set."""
    stages = {}
    for place, stage in enumerate(model.stages):
        codec = codecs[place % len(codecs)]
        lossy = lossy_named(codec)
        if lossy is not None and not any(map(lossy.narrows, stage.outputs)):
            codec = "raw"
        stages[stage.name] = StagePlan(bool(bits >> place & 1), codec)
    return Plan(stages, max_pending_rows=16)


@pytest.mark.parametrize("case", CASES)
@settings(deadline=None, max_examples=15)
@given(
    seeds=seed_lists,
    warmed=hit_patterns,
    codecs=st.tuples(*[st.sampled_from(["raw", *LOSSY_NAMES])] * 2),
    bits=st.integers(0, 7),
    size=st.integers(1, 20),
)
def test_any_pattern_of_hits_gives_the_bits_of_a_rounded_run_without_a_cache(
    case, seeds, warmed, codecs, bits, size
):
    make, rows_of = CASES[case]
    model, cache = make(), fresh_cache()
    for known, known_bits in warmed:
        # Some with the same codecs, some exact: those are entries of other keys.
        plan = lossy_plan(model, codecs if known_bits % 2 else ("raw",), known_bits)
        Predictor(compiled_plan(model.bundle, plan), cache=cache).predict(rows_of(known))
    plan = lossy_plan(model, codecs, bits)
    expected = Predictor(compiled_plan(model.bundle, plan)).predict(rows_of(seeds))
    predictor = Predictor(compiled_plan(model.bundle, plan), cache=cache)
    chunks = [seeds[i : i + size] for i in range(0, len(seeds), size)]
    made = list(predictor.stream([(i, rows_of(chunk)) for i, chunk in enumerate(chunks)]))
    for spec in model.outputs:
        got = pa.concat_arrays([outputs[spec.name] for _, outputs in made])
        assert bits_of(got) == bits_of(expected[spec.name])


@pytest.mark.parametrize("codec", LOSSY_NAMES)
@pytest.mark.parametrize("case", ["mlp", "encoder", "tokens"])
def test_a_second_rounded_run_computes_nothing_and_differs_from_an_exact_one(case, codec):
    make, rows_of = CASES[case]
    model, cache, rows = make(), fresh_cache(), rows_of(list(range(30)))
    plan = lossy_plan(model, (codec,), 7)
    first = Predictor(compiled_plan(model.bundle, plan), cache=cache).predict(rows)
    again = Predictor(compiled_plan(model.bundle, plan), cache=cache)
    assert {k: bits_of(v) for k, v in again.predict(rows).items()} == {
        k: bits_of(v) for k, v in first.items()
    }
    assert [stage.computed for stage in again.drain().stages.values()] == [0] * len(model.stages)
    exact = Predictor(compiled_plan(model.bundle), cache=cache)
    name = model.outputs[0].name
    assert bits_of(exact.predict(rows)[name]) != bits_of(first[name])
    # The head of an exact run does not find what was made from a rounded trunk.
    assert exact.drain().stages[model.stages[-1].name].hits == 0


def test_a_rounded_entry_is_smaller():
    sizes = {}
    for codec in ("raw", *LOSSY_NAMES):
        plan = Plan({"layer": StagePlan(cached=True, codec=codec)})
        model, rows_of = CASES["tokens"][0](), CASES["tokens"][1]
        predictor = Predictor(compiled_plan(model.bundle, plan), cache=fresh_cache())
        predictor.predict(rows_of(list(range(30))))
        sizes[codec] = predictor.drain().stages["layer"].bytes_written
    assert sizes["bf16"] == sizes["fp16"] < 0.65 * sizes["raw"]
    assert sizes["int8"] < 0.55 * sizes["raw"]


def test_a_row_that_the_codec_cannot_hold_stays_exact_and_is_not_kept():
    model = plain(Mlp, "trunk")
    large = np.full((1, 8), 1e6, dtype=np.float32)
    rows = np.concatenate([large, np.ones((1, 8), dtype=np.float32)])
    plan, cache = Plan({"trunk": StagePlan(cached=True, codec="fp16")}), fresh_cache()
    exact = model.predict({"x": rows})["scores"]
    for computed in (2, 1):
        predictor = Predictor(compiled_plan(model.bundle, plan), cache=cache)
        made = predictor.predict({"x": pa.array(list(rows))})["scores"].to_pylist()
        assert made[0] == exact[0].tolist()
        assert made[1] != exact[1].tolist()
        stage = predictor.drain().stages["trunk"]
        assert stage.computed in (computed, 0)


def test_a_stage_without_vectors_of_floats_takes_no_lossy_codec():
    model = CASES["towers"][0]()
    plan = Plan({model.stages[-1].name: StagePlan(cached=True, codec="int8")})
    with pytest.raises(UsageError, match="no vector"):
        Predictor(compiled_plan(model.bundle, plan))


def test_a_budget_holds_more_rows_of_fewer_bytes():
    model = CASES["mlp"][0]()
    shares = []
    for codec in ("raw", "int8"):
        plan = Plan({"trunk": StagePlan(cached=True, codec=codec)}).for_bundle(model.bundle)
        plan = within_budget(plan, model.stages, rows=1_000, budget_bytes=300_000, chosen=[])
        shares.append(plan.stages["trunk"].share)
    assert shares[0] <= shares[1]


def test_the_rows_of_rounded_stages_are_found_by_a_purge():
    bundle = plain(Mlp, "trunk").bundle
    rows = {"x": [[1.0] * 8]}
    exact, both = identities_of_rows(bundle, rows), identities_of_rows(bundle, rows, BF16)
    assert len(both) == 2 * len(exact)
    asked = []

    class Spy:
        def keyspace(self, identity, specs, *, codec="raw", guard=None):
            asked.append(identity)
            return fresh_cache().keyspace(identity, specs)

        def overlap(self):
            return None

    Predictor(compiled_plan(bundle, BF16), cache=Spy())  # type: ignore[arg-type]
    assert set(asked) <= set(both)
    assert not set(asked) & set(exact)
    trunk = bundle.stages[0]
    assert asked[0].startswith(trunk.fingerprint + place_of(trunk, 1, "cpu"))


class Close(torch.nn.Module):
    """A label that hangs on the last bits of its trunk."""

    def __init__(self, gap: float) -> None:
        super().__init__()
        self.trunk = torch.nn.Linear(8, 8)
        self.gap = gap

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        hidden = self.trunk(x)
        return {"label": (hidden.sum(dim=-1) > self.gap).to(torch.int64), "score": hidden.sum(-1)}


def close(gap: float) -> Model:
    return Model.from_torch(seeded(Close(gap)), {"x": torch.zeros(4, 8)}, cuts=["trunk"])


def test_a_codec_that_flips_a_label_is_refused_and_one_that_does_not_passes():
    x = {"x": vector_rows(list(range(200)))}
    scores = close(0.0).predict({"x": x["x"]})["score"]
    rounded = Predictor(compiled_plan(close(0.0).bundle, BF16)).predict(x)["score"].to_numpy()
    apart = np.abs(scores - rounded).argmax()
    # Between what the exact and the rounded trunk say of one row.
    flipping = close(float(scores[apart] + rounded[apart]) / 2)
    with pytest.raises(
        LossyCodecError, match=r"trunk: bf16\) refused: \d+ of 200 values of 'label'"
    ):
        probe(compiled_plan(flipping.bundle, BF16), x)
    error = probe(compiled_plan(close(1e9).bundle, BF16), x)
    assert error is not None
    assert 0 < error < 0.01


def test_a_difference_above_the_tolerance_and_another_largest_number_are_refused():
    model = plain(Mlp, "trunk")
    x = {"x": vector_rows(list(range(200)))}
    with pytest.raises(LossyCodecError, match="lossy_tolerance is 1e-06"):
        probe(compiled_plan(model.bundle, Plan(BF16.stages, lossy_tolerance=1e-6)), x)
    ties = torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.Linear(64, 64))
    tied = Model.from_torch(seeded(ties), {"input": torch.zeros(4, 8)}, cuts=["0"])
    plan = Plan({"0": StagePlan(cached=True, codec="int8")}, lossy_tolerance=1.0)
    rows = {"input": vector_rows([seed % 250 for seed in range(256)])}
    with pytest.raises(LossyCodecError, match="largest number of 'output' is another one"):
        probe(compiled_plan(tied.bundle, plan), rows)


def test_a_probe_is_remembered_and_an_exact_plan_needs_none():
    model, x = plain(Mlp, "trunk"), {"x": vector_rows(list(range(64)))}
    assert probe(compiled_plan(model.bundle, Plan()), x) is None
    cache = fresh_cache()
    first = probe(compiled_plan(model.bundle, BF16), x, cache=cache)
    assert probe(compiled_plan(model.bundle, BF16), {}, cache=cache) == first
    assert BF16.exact().lossy == {}
    assert BF16.for_bundle(model.bundle).uncached().lossy == {}


def test_nothing_is_remembered_of_a_probe_that_failed():
    model, x, cache = plain(Mlp, "trunk"), {"x": vector_rows(list(range(64)))}, fresh_cache()
    strict = Plan(BF16.stages, lossy_tolerance=1e-9)
    for _ in range(2):
        with pytest.raises(LossyCodecError):
            probe(compiled_plan(model.bundle, strict), x, cache=cache)
