"""Folders of transformers: trained for seconds in a fixture, read as their config says, refused when in doubt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from kvspark.errors import ModelError, UsageError
from kvspark.infer.model import Model
from kvspark.model.features.text import TextFeatures, load_tokenizer
from kvspark.model.pretrained.source import load_pretrained
from tests.pretrained_models import (
    digits,
    glosses,
    save_image_classifier,
    save_text_classifier,
    save_token_classifier,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pretrained")
    return {
        "bert": save_text_classifier(root / "bert"),
        "tokens": save_token_classifier(root / "tokens"),
        "vit": save_image_classifier(root / "vit"),
        "convnext": save_image_classifier(root / "convnext", "ConvNext"),
    }


@pytest.fixture(scope="module")
def classifiers(folders: dict[str, Path]) -> dict[str, Model]:
    return {name: Model.from_pretrained(folder) for name, folder in folders.items()}


def rows_of(name: str) -> dict[str, Any]:
    if name in ("bert", "tokens"):
        return {"text": glosses()[0][:40]}
    return {"image": digits()[0][1_500:1_540]}


def copied(folder: Path, to: Path, **config: Any) -> Path:
    """A copy of `folder` whose config.json says `config` instead."""
    shutil.copytree(folder, to)
    path = to / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return to


# ---------------------------------------------------------------- results


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("bert", {"logits": (4,), "label": (), "score": ()}),
        ("vit", {"logits": (10,), "label": (), "score": ()}),
        ("convnext", {"logits": (10,), "label": (), "score": ()}),
        ("tokens", {"logits": (None, 2), "label": (None,), "score": (None,), "offsets": (None, 2)}),
    ],
)
def test_a_classifier_gives_logits_labels_and_scores(
    classifiers: dict[str, Model], name: str, outputs: dict[str, Any]
) -> None:
    model = classifiers[name]
    assert {spec.name: spec.shape for spec in model.outputs} == outputs
    made = model.predict(rows_of(name))
    for logits, label, score in zip(made["logits"], made["label"], made["score"], strict=True):
        wide = np.asarray(logits, dtype=np.float64)
        expected = np.exp(wide - wide.max(-1, keepdims=True))
        expected /= expected.sum(-1, keepdims=True)
        assert np.array_equal(label, wide.argmax(-1))
        np.testing.assert_allclose(score, expected.max(-1), rtol=1e-5)


@pytest.mark.parametrize("name", ["bert", "tokens", "vit", "convnext"])
def test_the_stages_give_the_bits_of_the_eager_network(
    classifiers: dict[str, Model], folders: dict[str, Path], name: str
) -> None:
    model, given = classifiers[name], rows_of(name)
    module, features = load_pretrained(folders[name], max_length=None)
    (column,) = given.values()
    made = features.computation().run([column])
    lengths = {len(row) for row in made[0]} if isinstance(made[0], list) else {0}
    by_row = model.predict(given, threads=torch.get_num_threads())["logits"]
    for length in lengths:
        # As many rows as a call has, and as long as its bucket.
        rows = [i for i, row in enumerate(made[0]) if not length or len(row) == length][:32]
        bucket = model.bundle.micro_batch.bucket(length)
        batch = {}
        for spec, values in zip(features.outputs, made, strict=True):
            padded = [_padded(values[i], bucket, features.pads[spec.name]) for i in rows]
            batch[spec.name] = torch.from_numpy(np.stack(padded + padded[:1] * (32 - len(rows))))
        with torch.inference_mode():
            eager = module(**batch)["logits"].numpy()
        for place, row in enumerate(rows):
            whole = eager[place][:length] if name == "tokens" else eager[place]
            assert np.asarray(by_row[row]).tobytes() == whole.tobytes()


def _padded(row: Any, bucket: int, pad: int) -> Any:
    if not bucket or row.dtype != np.int64:
        return row
    made = np.full((bucket, *row.shape[1:]), pad, dtype=row.dtype)
    made[: len(row)] = row
    return made


def test_a_result_is_what_a_user_of_transformers_gets(
    classifiers: dict[str, Model], folders: dict[str, Path]
) -> None:
    text = glosses()[0][7]
    tokens = transformers.AutoTokenizer.from_pretrained(folders["bert"])
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folders["bert"])
    with torch.inference_mode():
        expected = network(**tokens([text], truncation=True, return_tensors="pt")).logits[0]
    made = classifiers["bert"].predict({"text": [text]})
    np.testing.assert_allclose(made["logits"][0], expected.numpy(), atol=1e-5)
    assert made["label"][0] == int(expected.argmax())


def test_offsets_lead_from_a_token_to_its_text(classifiers: dict[str, Model]) -> None:
    text = "éclair, choux: a pastry \U0001f370 with cream"
    made = classifiers["tokens"].predict({"text": [text]})
    pieces = [text[start:end] for start, end in made["offsets"][0]]
    assert pieces[0] == pieces[-1] == ""  # the marks around a text
    assert "".join(pieces) == text.replace(" ", "")
    assert made["label"][0][pieces.index("cream"[:1]) if "c" in pieces else -2] in (0, 1)


def test_the_trunk_is_found(classifiers: dict[str, Model]) -> None:
    assert [stage.name for stage in classifiers["bert"].stages] == [
        "features",
        "network.bert",
        "output",
    ]
    assert len(classifiers["vit"].stages) == 3


def test_several_labels_a_row_have_scores_and_a_regression_has_logits(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    several = copied(folders["bert"], tmp_path / "m", problem_type="multi_label_classification")
    made = Model.from_pretrained(several).predict(rows_of("bert"))
    np.testing.assert_allclose(made["scores"], 1 / (1 + np.exp(-made["logits"])), rtol=1e-5)
    number = copied(folders["bert"], tmp_path / "r", problem_type="regression")
    assert [spec.name for spec in Model.from_pretrained(number).outputs] == ["logits"]


# ---------------------------------------------------------------- fingerprints


@pytest.mark.parametrize(
    "config",
    [
        {"num_attention_heads": 2},
        {"hidden_act": "relu"},
        {"layer_norm_eps": 1e-5},
    ],
    ids=lambda config: next(iter(config)),
)
def test_a_config_that_keeps_the_weights_is_another_model(
    classifiers: dict[str, Model], folders: dict[str, Path], tmp_path: Path, config: dict[str, Any]
) -> None:
    other = Model.from_pretrained(copied(folders["bert"], tmp_path / "m", **config))
    assert other.stages[0].fingerprint == classifiers["bert"].stages[0].fingerprint
    assert other.stages[1].fingerprint != classifiers["bert"].stages[1].fingerprint
    assert other.fingerprint != classifiers["bert"].fingerprint


def test_another_rope_theta_is_another_model(tmp_path: Path) -> None:
    first = save_text_classifier(tmp_path / "a", "Llama", num_key_value_heads=2)
    config = json.loads((first / "config.json").read_text())
    rope = {**config["rope_parameters"], "rope_theta": 500.0}
    second = copied(first, tmp_path / "b", rope_parameters=rope)
    a, b = Model.from_pretrained(first), Model.from_pretrained(second)
    assert a.stages[0].fingerprint == b.stages[0].fingerprint
    assert a.fingerprint != b.fingerprint


def test_names_of_labels_are_no_part_of_a_result(
    classifiers: dict[str, Model], folders: dict[str, Path], tmp_path: Path
) -> None:
    names = {"0": "other", "1": "third", "2": "second", "3": "first"}
    other = Model.from_pretrained(copied(folders["bert"], tmp_path / "m", id2label=names))
    assert other.fingerprint == classifiers["bert"].fingerprint


def test_one_weight_by_one_ulp_is_another_model(
    classifiers: dict[str, Model], folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copied(folders["bert"], tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    bias = weights["classifier.bias"]
    bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    other = Model.from_pretrained(folder)
    assert other.stages[1].fingerprint == classifiers["bert"].stages[1].fingerprint
    assert other.fingerprint != classifiers["bert"].fingerprint


def test_a_tokenizer_that_was_used_has_the_fingerprint_of_a_fresh_one(
    classifiers: dict[str, Model], folders: dict[str, Path], tmp_path: Path
) -> None:
    used = load_tokenizer(folders["bert"])
    used(["some text", "more"], padding="max_length", truncation=True, max_length=7)
    fresh = load_tokenizer(folders["bert"])
    assert TextFeatures.from_tokenizer(used).content == TextFeatures.from_tokenizer(fresh).content
    folder = copied(folders["bert"], tmp_path / "m")
    used(["some text", "more"], padding="max_length", truncation=True, max_length=7)
    used.save_pretrained(folder)
    assert Model.from_pretrained(folder).fingerprint == classifiers["bert"].fingerprint


# ---------------------------------------------------------------- lengths


def test_a_text_is_cut_where_the_positions_end(folders: dict[str, Path], tmp_path: Path) -> None:
    """50 positions, which are no multiple of the padding's step: a row of 49 tokens is padded to 50, not to 52."""
    folder = copied(folders["bert"], tmp_path / "m", max_position_embeddings=50)
    weights = load_file(folder / "model.safetensors")
    table = "bert.embeddings.position_embeddings.weight"
    weights[table] = weights[table][:50].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["model_max_length"] = 512
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    model = Model.from_pretrained(folder)
    long = "an oak is a tree and " * 30
    made = model.predict({"text": [long, "oak"]})["logits"]
    short = Model.from_pretrained(folder, max_length=50).predict({"text": [long]})["logits"]
    assert made[0].tobytes() == short[0].tobytes()
    with pytest.raises(UsageError, match="max_length 51 is more than the 50 tokens"):
        Model.from_pretrained(folder, max_length=51)


# ---------------------------------------------------------------- refusals


def without(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).unlink()
    return folder


def pickled(folder: Path) -> Path:
    (folder / "pytorch_model.bin").write_bytes(b"")
    return without(folder, "model.safetensors")


def headless(folder: Path) -> Path:
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("change", "config", "why"),
    [
        (pickled, {}, r"weights as a pickle.*save_pretrained\(new_folder\) writes"),
        (lambda f: without(f, "model.safetensors"), {}, "holds no weights"),
        (headless, {}, r"has no weights for classifier.bias \(and 1 more\)"),
        (lambda f: f, {"architectures": ["BertModel"]}, "holds a BertModel; expected one for"),
        (lambda f: f, {"architectures": []}, "names 0 architectures"),
        (
            lambda f: f,
            {"model_type": "mine", "auto_map": {"AutoModel": "mine.Mine"}},
            "auto_map is .* its code is never run",
        ),
        (lambda f: f, {"model_type": "bertt"}, "cannot load it as AutoModelForSequence"),
        (lambda f: without(f, "tokenizer.json"), {}, "holds no fast tokenizer"),
        (lambda f: f, {"pad_token_id": 999}, None),
    ],
    ids="bin none headless encoder nameless code unknown tokenizer pad".split(),
)
def test_a_folder_in_doubt_is_refused(
    folders: dict[str, Path], tmp_path: Path, change: Any, config: dict[str, Any], why: str | None
) -> None:
    folder = change(copied(folders["bert"], tmp_path / "m", **config))
    if why is None:  # BERT masks its padding, whatever it is filled with
        Model.from_pretrained(folder)
        return
    with pytest.raises(ModelError, match=why) as refused:
        Model.from_pretrained(folder)
    assert refused.value.exit_code == 65
    assert "\n" not in refused.value.line()


def test_a_model_that_looks_at_its_padding_is_computed_without(tmp_path: Path) -> None:
    """FNet mixes all tokens of a row by a Fourier transform, and has no mask."""
    folder = save_text_classifier(tmp_path / "fnet", "FNet")
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    model = Model.from_pretrained(folder)
    assert model.bundle.length_rule.is_exact
    texts = glosses()[0][:8]
    for text, ours in zip(texts, model.predict({"text": texts})["logits"], strict=True):
        with torch.inference_mode():
            ids = tokens([text], truncation=True, return_tensors="pt")["input_ids"]
            alone = network(input_ids=ids).logits[0].numpy()
        np.testing.assert_allclose(ours, alone, atol=1e-5)


def test_a_model_that_reads_its_last_token_finds_it_before_the_padding(tmp_path: Path) -> None:
    folder = save_text_classifier(
        tmp_path / "gpt", "GPT2", bos_token_id=2, eos_token_id=3, n_positions=64
    )
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    texts = glosses()[0][:8]
    made = Model.from_pretrained(folder).predict({"text": texts})["logits"]
    for text, ours in zip(texts, made, strict=True):
        with torch.inference_mode():
            ids = tokens([text], truncation=True, return_tensors="pt")["input_ids"]
            alone = network(input_ids=ids).logits[0].numpy()
        np.testing.assert_allclose(ours, alone, atol=1e-5)


def test_max_length_is_for_texts(folders: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="max_length is for texts"):
        Model.from_pretrained(folders["vit"], max_length=8)
