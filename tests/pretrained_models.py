"""Small classifiers of one layer in folders of transformers, trained for seconds on real text and real digits.

The text is the glosses of WordNet that the demo ships, the digits are scikit-learn's. Every folder is
written by save_pretrained, as a user's own would be.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import transformers
from PIL import Image
from sklearn.datasets import load_digits
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

GLOSSES = Path(__file__).parents[1] / "kvspark/demo/nights/data/wordnet-3.0.parquet"
ROWS = 600
EPOCHS = 1


def glosses() -> tuple[list[str], list[int]]:
    """Texts, and 1 for a noun's among the three most frequent labels, else its place behind them."""
    texts, places = _glosses()
    return list(texts), list(places)


@cache
def _glosses() -> tuple[list[str], list[int]]:
    table = pq.read_table(GLOSSES).slice(0, ROWS)
    names = [str(name) for name in table["label"].to_pylist()]
    frequent = sorted(set(names), key=lambda name: (-names.count(name), name))[:3]
    places = [frequent.index(name) if name in frequent else 3 for name in names]
    return table["text"].to_pylist(), places


def tokenizer(texts: list[str], *, max_length: int = 48) -> Any:
    """A WordPiece tokenizer of 1,000 pieces."""
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained_tokenizer(tuple(texts))),
        model_max_length=max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


@cache
def _trained_tokenizer(texts: tuple[str, ...]) -> str:
    """Its file: a tokenizer remembers how it was used last."""
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=1_000, special_tokens=special)
    )
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    text: str = made.to_str()
    return text


def trained(network: Any, batches: Iterator[dict[str, torch.Tensor]]) -> Any:
    """`network` after one step for each of `batches`, in eval mode."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3)
    network.train()
    for batch in batches:
        optimiser.zero_grad()
        network(**batch).loss.backward()
        optimiser.step()
    return network.eval()


def any_config(kind: str, **options: Any) -> Any:
    """A configuration of transformers, whose own types do not name every option."""
    return getattr(transformers, f"{kind}Config")(**options)


def text_config(kind: str, **options: Any) -> Any:
    sizes = {
        "vocab_size": 1_000,
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    return any_config(kind, **{**sizes, **options})


def save_text_classifier(folder: Path, kind: str = "Bert", **options: Any) -> Path:
    """`kind`ForSequenceClassification over four labels, with its tokenizer."""
    torch.manual_seed(5)
    texts, places = glosses()
    tokens = tokenizer(texts)
    names = {0: "first", 1: "second", 2: "third", 3: "other"}
    config = text_config(kind, num_labels=4, id2label=names, **options)
    network = getattr(transformers, f"{kind}ForSequenceClassification")(config)

    def batches() -> Iterator[dict[str, torch.Tensor]]:
        for start in range(0, ROWS * EPOCHS, 50):
            rows = [i % ROWS for i in range(start, start + 50)]
            given = tokens(
                [texts[i] for i in rows], padding=True, truncation=True, return_tensors="pt"
            )
            labels = torch.tensor([places[i] for i in rows])
            if options.get("problem_type") == "multi_label_classification":
                labels = torch.nn.functional.one_hot(labels, 4).float()
            mask = {} if kind == "FNet" else {"attention_mask": given["attention_mask"]}
            yield {"input_ids": given["input_ids"], **mask, "labels": labels}

    trained(network, batches()).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def save_token_classifier(folder: Path) -> Path:
    """DistilBertForTokenClassification that tells the words before the colon from the gloss behind it."""
    torch.manual_seed(5)
    texts, _ = glosses()
    tokens = tokenizer(texts)
    config = transformers.DistilBertConfig(
        vocab_size=1_000, dim=32, n_layers=1, n_heads=4, hidden_dim=64, max_position_embeddings=64
    )
    network = transformers.DistilBertForTokenClassification(config)

    def batches() -> Iterator[dict[str, torch.Tensor]]:
        for start in range(0, ROWS, 50):
            given = tokens(
                texts[start : start + 50], padding=True, truncation=True, return_tensors="pt"
            )
            ids = given["input_ids"]
            colon = tokens.convert_tokens_to_ids(":")
            behind = (ids == colon).cumsum(dim=1).clamp(max=1)
            yield {**{k: given[k] for k in ("input_ids", "attention_mask")}, "labels": behind}

    trained(network, batches()).save_pretrained(folder)
    tokens.save_pretrained(folder)
    return folder


def digits() -> tuple[list[bytes], list[int]]:
    """1,797 digits as PNG files of 8 x 8 pixels in three channels, and what they are."""
    contents, labels = _digits()
    return list(contents), list(labels)


@cache
def _digits() -> tuple[list[bytes], list[int]]:
    found = load_digits()
    contents = []
    for grey in (found.images * 15.9).astype(np.uint8):
        into = BytesIO()
        Image.fromarray(np.repeat(grey[..., None], 3, axis=2)).save(into, "PNG")
        contents.append(into.getvalue())
    return contents, [int(digit) for digit in found.target]


def image_classifier(kind: str) -> tuple[Any, Any]:
    """An untrained `kind`ForImageClassification of ten digits, and its processor."""
    torch.manual_seed(5)
    if kind == "ViT":
        config = any_config(
            kind,
            image_size=16,
            patch_size=4,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=4,
            intermediate_size=64,
            num_labels=10,
        )
        processor: Any = transformers.ViTImageProcessorPil(size={"height": 16, "width": 16})
    else:
        config = any_config(
            kind, depths=[1, 1], hidden_sizes=[16, 32], patch_size=2, num_stages=2, num_labels=10
        )
        processor = transformers.ConvNextImageProcessorPil(
            size={"shortest_edge": 16}, crop_pct=0.875
        )
    return getattr(transformers, f"{kind}ForImageClassification")(config), processor


def save_image_classifier(folder: Path, kind: str = "ViT") -> Path:
    """`kind`ForImageClassification of ten digits, with its processor."""
    network, processor = image_classifier(kind)
    contents, labels = digits()
    pictures = [Image.open(BytesIO(content)) for content in contents[:ROWS]]
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]

    def batches() -> Iterator[dict[str, torch.Tensor]]:
        for start in range(0, ROWS * EPOCHS, 50):
            rows = [i % ROWS for i in range(start, start + 50)]
            yield {
                "pixel_values": pixels[rows],
                "labels": torch.tensor([labels[i] for i in rows]),
            }

    trained(network, batches()).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
