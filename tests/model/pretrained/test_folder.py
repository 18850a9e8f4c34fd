"""What may lie in a pretrained folder, how its prompt is chosen, and what the comparison of texts finds."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from kvspark.errors import ModelError, UsageError
from kvspark.infer.model import Model
from kvspark.infer.open_model import open_model
from kvspark.model.features.text import TextFeatures
from kvspark.model.pretrained.folder import check_folder
from kvspark.model.pretrained.positions import most_tokens
from kvspark.model.pretrained.prompt import Prompt, chosen_prompt
from kvspark.model.pretrained.sentence import load_sentence_encoder
from kvspark.model.pretrained.text_check import check_texts
from tests.model.folder_matrix import POSITIONS, network, sentence_folder, words_tokenizer, write

FAMILIES = (
    "Bert Roberta XLMRoberta DistilBert MPNet Albert Electra DebertaV2 ModernBert T5 MT5 Qwen2 Qwen3 "
    "Llama Mistral Gemma2 Gemma3Text GPT2 Bart Camembert NomicBert ViT ConvNext"
).split()

HUB = {
    "_name_or_path": "somebody/some-model",
    "gradient_checkpointing": False,
    "directionality": "bidi",
    "pooler_type": "first_token_transform",
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "output_past": True,
    "finetuning_task": None,
    "task_specific_params": {"summarization": {"num_beams": 4}},
    "transformers_version": "4.8.2",
    "use_cache": True,
    "num_beams": 4,
}
"""What config.json files of well-known folders have and today's classes do not."""


@pytest.mark.parametrize("family", FAMILIES)
def test_what_well_known_folders_hold_is_not_refused(family: str, tmp_path: Path) -> None:
    config = getattr(transformers, f"{family}Config")()
    write(tmp_path / "config.json", {**HUB, **json.loads(config.to_json_string(use_diff=False))})
    tokenizer = {
        "do_lower_case": True,
        "tokenizer_class": "BertTokenizer",
        "never_split": None,
        "model_max_length": 512,
        "sp_model_kwargs": {},
        "added_tokens_decoder": {"0": {"content": "[PAD]", "special": True}},
        "chat_template": "{{ messages }}",
    }
    write(tmp_path / "tokenizer_config.json", tokenizer)
    for name in (
        "README.md .gitattributes vocab.txt spiece.model pytorch_model.bin tf_model.h5 rust_model.ot "
        "train_script.py handler.py LICENSE flax_model.msgpack chat_template.jinja"
    ).split():
        (tmp_path / name).write_text("")
    for name in (
        "special_tokens_map added_tokens generation_config data_config trainer_state eval_results "
        "pytorch_model.bin.index model.safetensors.index"
    ).split():
        write(tmp_path / f"{name}.json", {})
    write(tmp_path / "onnx/config.json", {"x": 1})
    check_folder(tmp_path)


def test_a_folder_that_the_library_saved_is_read_as_it_reads_it(tmp_path: Path) -> None:
    sentence_folder(tmp_path / "first", modules="Pooling Normalize", own={"truncate_dim": 6})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        library = SentenceTransformer(
            str(tmp_path / "first"),
            device="cpu",
            prompts={"query": "query : "},
            default_prompt_name="query",
        )
        library.save(str(tmp_path / "second"))
        texts = ["An oak", "", "w1 " * 40]
        right = [library.encode([text], batch_size=1)[0] for text in texts]
    made = Model.from_pretrained(tmp_path / "second").predict({"text": texts})["embedding"]
    np.testing.assert_allclose(made, np.stack(right), atol=2e-5)


# ---------------------------------------------------------------- prompts

OWN = {"prompts": {"query": "query: ", "document": None}, "default_prompt_name": "query"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (Prompt(), "query: "),
        (Prompt(text=""), ""),
        (Prompt(text="a "), "a "),
        (Prompt(name="query"), "query: "),
        (Prompt(name="document"), ""),
    ],
    ids="default none text name empty".split(),
)
def test_a_prompt_is_chosen_as_encode_chooses_it(given: Prompt, expected: str) -> None:
    assert chosen_prompt(Path("m"), OWN, given) == expected


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            Prompt(name="passage"),
            "prompt_name 'passage' is no prompt of m; it has 'query', 'document'",
        ),
        (Prompt("a ", "query"), "prompt or prompt_name, not both"),
    ],
    ids="unknown both".split(),
)
def test_a_prompt_that_is_none_of_the_folder_is_a_mistake(given: Prompt, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        chosen_prompt(Path("m"), OWN, given)


def test_a_prompt_is_part_of_the_features_and_of_the_bundle(tmp_path: Path) -> None:
    sentence_folder(tmp_path / "m", own={"prompts": {"query": "query : "}})
    plain = Model.from_pretrained(tmp_path / "m")
    named = open_model(tmp_path / "m", prompt_name="query")
    assert named.stages[0].fingerprint != plain.stages[0].fingerprint
    assert named.fingerprint != plain.fingerprint
    text = Model.from_pretrained(tmp_path / "m", prompt="query : ")
    assert text.fingerprint == named.fingerprint
    named.save(tmp_path / "bundle")
    again = open_model(tmp_path / "bundle")
    made = again.predict({"text": ["An oak"]})["embedding"]
    written = plain.predict({"text": ["query : An oak"]})["embedding"]
    assert made.tobytes() == written.tobytes()
    with pytest.raises(UsageError, match=r"model\.prompt: .* has the prompt that it was made with"):
        open_model(tmp_path / "bundle", prompt="query : ")


# ---------------------------------------------------------------- lengths


@pytest.mark.parametrize(
    ("kind", "fewer"),
    [("Bert", 0), ("Roberta", 1), ("XLMRoberta", 1), ("MPNet", 2), ("GPT2", 0), ("Bart", 0)],
)
def test_a_network_has_positions_for_so_many_tokens(kind: str, fewer: int) -> None:
    options: dict[str, Any] = {}
    if kind == "Bart":
        options = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 32}
        options |= {"decoder_ffn_dim": 32, "encoder_attention_heads": 2}
        options |= {"decoder_attention_heads": 2}
    assert most_tokens(network(kind, **options)) == POSITIONS - fewer


def test_a_length_beyond_the_positions_is_a_mistake(tmp_path: Path) -> None:
    sentence_folder(tmp_path)
    with pytest.raises(UsageError, match=f"max_length {POSITIONS + 1} is more than the"):
        load_sentence_encoder(tmp_path, max_length=POSITIONS + 1)


# ---------------------------------------------------------------- comparing


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"truncation_side": "left"}, "longer than the limit"),
        ({"max_length": 5}, "short"),
        ({"split_special_tokens": True}, "with special tokens"),
        ({"prompt": "a "}, "short"),
    ],
    ids="side length special prompt".split(),
)
def test_a_text_that_is_read_in_another_way_is_named_by_its_kind(
    settings: dict[str, Any], kind: str
) -> None:
    tokenizer = words_tokenizer()
    features = TextFeatures.from_tokenizer(tokenizer)
    check_texts(Path("m"), tokenizer, features)
    other = features.with_settings(**settings)
    if "max_length" in settings:
        # Both are cut at the same number of tokens; it is the tokenizer's template that differs.
        tokenizer = words_tokenizer("[CLS] $A")
    with pytest.raises(ModelError, match=f"reads a text that is {kind} in another way"):
        check_texts(Path("m"), tokenizer, other)
