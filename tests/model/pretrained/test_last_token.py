"""Classifiers that read one token of a text: the last that is no padding, or the one that ends it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from kvspark.errors import ExportError
from kvspark.infer.model import Model
from kvspark.model.pretrained.positions import most_tokens
from tests.model.pretrained.test_source import copied
from tests.pretrained_models import any_config, glosses, save_text_classifier, tokenizer

pytestmark = pytest.mark.slow


def test_a_folder_without_a_padding_id_reads_the_last_token_of_each_text(tmp_path: Path) -> None:
    """transformers takes one text at a time then; here none is padded, so texts of a length share a call."""
    made = save_text_classifier(tmp_path / "a", "GPT2", bos_token_id=2, eos_token_id=3)
    folder = copied(made, tmp_path / "b", pad_token_id=None)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokens = transformers.AutoTokenizer.from_pretrained(folder)
    model = Model.from_pretrained(folder)
    assert model.bundle.length_rule.is_exact
    texts = [*glosses()[0][:30], "oak [PAD]", "[PAD]"]
    for text, ours in zip(texts, model.predict({"text": texts})["logits"], strict=True):
        with torch.inference_mode():
            alone = network(**tokens([text], truncation=True, return_tensors="pt")).logits[0]
        np.testing.assert_allclose(ours, alone.numpy(), atol=1e-5)


def test_a_classifier_that_reads_the_end_of_a_text_is_refused_in_words(tmp_path: Path) -> None:
    texts, _ = glosses()
    sizes: dict[str, Any] = {f"{p}_{n}": 1 for p in ("encoder", "decoder") for n in ("layers",)}
    heads = {f"{p}_attention_heads": 2 for p in ("encoder", "decoder")}
    tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "decoder_start_token_id": 3}
    config = any_config(
        "Bart", vocab_size=1_000, d_model=16, max_position_embeddings=40, **sizes, **heads, **tokens
    )
    network = transformers.BartForSequenceClassification(config).eval()
    network.save_pretrained(tmp_path)
    tokenizer(texts).save_pretrained(tmp_path)
    assert most_tokens(network) == 40
    with pytest.raises(ExportError, match=r"depends? on values|torch\.export cannot capture"):
        Model.from_pretrained(tmp_path)
