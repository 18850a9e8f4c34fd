"""Lossy codecs on a real model: MiniLM with a head that was trained on glosses of WordNet."""

from __future__ import annotations

import numpy as np
import pyarrow.compute as pc
import pytest

from kvspark.cache.cache import Cache
from kvspark.cache.entry.lossy import LOSSY_NAMES
from kvspark.demo.classifier import load_trunk
from kvspark.demo.head import train_head
from kvspark.demo.models import Models
from kvspark.demo.nights.night import shipped_nights
from kvspark.errors import LossyCodecError
from kvspark.infer.checks.lossy_probe import probe
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.plan.plan import Plan, StagePlan

TRAINED, SCORED = 128, 32


@pytest.mark.slow
def test_a_trained_head_on_a_rounded_trunk_is_the_same_cold_and_warm_or_refused() -> None:
    night = shipped_nights()[1].read()
    # Of one length or nearly so: a micro-batch of each length has 32 rows, however few are needed.
    length = pc.utf8_length(night["text"])
    night = night.filter(pc.and_(pc.greater(length, 50), pc.less(length, 60)))
    rows = night.take(np.random.default_rng(0).choice(len(night), TRAINED, replace=False))
    texts = rows["text"].combine_chunks()
    models = Models(load_trunk())
    vectors = models.trunk.predict({"text": texts})["output"]
    head = train_head(np.asarray(vectors), rows["label"].to_pylist()).head
    bundle = models.with_head(head, name="glosses").bundle
    scored = {"text": texts[:SCORED]}
    exact = Predictor(compiled_plan(bundle)).predict(scored)
    with_codecs, errors = {}, {}
    for codec in LOSSY_NAMES:
        plan = Plan({"trunk": StagePlan(cached=True, codec=codec)})
        cache = Cache.connect(f"memory://rounded-{codec}", namespace="n")
        cold, warm = (
            Predictor(compiled_plan(bundle, plan), cache=cache).predict(scored) for _ in range(2)
        )
        assert cold == warm
        assert not cold["confidence"].equals(exact["confidence"])
        with_codecs[codec] = cold["label_id"].equals(exact["label_id"])
        try:
            errors[codec] = probe(compiled_plan(bundle, plan), scored)
        except LossyCodecError:
            errors[codec] = None
    # What the probe says is what the rows say: no label changes where it lets a codec pass.
    assert all(with_codecs[codec] for codec, error in errors.items() if error is not None)
    assert errors["fp16"] is not None
    assert errors["fp16"] < 0.001
