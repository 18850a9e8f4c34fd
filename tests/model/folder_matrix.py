"""Folders of sentence-transformers and transformers, each with one setting that is not the plain one.

A variation says how its folder is made and what must come of it: the numbers of the library itself, or a
refusal that names the key. Networks have random weights and one layer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "query : oak Oak OAK tree Tree TREE a A an An is tall crème creme [ ] SEP".split()
WIDTH, LENGTH, POSITIONS = 16, 12, 32

TEXTS = {
    "short": "An oak is a tree",
    "long": " ".join(f"w{i}" for i in range(80)),
    "upper": "AN OAK IS A TALL TREE",
    "accented": "crème Oak über w3",
    "empty": "",
    "emoji": "oak \U0001f333 tree",
    "special": "oak [SEP] tree [MASK] [PAD] w4",
}
TYPES = "sentence_transformers.models."


@final
@dataclass(frozen=True)
class Variation:
    """One folder: how it is made, and what must come of it."""

    name: str
    make: Callable[[Path], None]
    refused: str | None = None
    """A pattern of the refusal, in which the key's name stands; equal to the library without it."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of `from_pretrained`, and, but for max_length, of `encode`."""
    is_exported: bool = False
    """Compared as a model with padded rows too; the others, whose graph is a plain folder's, as they are loaded."""
    without: tuple[str, ...] = ()
    """Texts for which the library itself has no result."""
    atol: float = 2e-5


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def update(path: Path, **values: Any) -> None:
    write(path, {**(json.loads(path.read_text()) if path.exists() else {}), **values})


def words_tokenizer(
    template: str | None = "[CLS] $A [SEP]", *, max_length: int = LENGTH, **options: Any
) -> Any:
    """A cased tokenizer of whole words, without a normaliser."""
    words = SPECIAL + WORDS + [f"w{i}" for i in range(90)]
    ids = {word: place for place, word in enumerate(words)}
    made = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    if template is not None:
        used = [(word, ids[word]) for word in SPECIAL if word in template]
        made.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    tokens: dict[str, Any] = {f"{name}_token": token for name, token in names.items()}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, model_max_length=max_length, **{**tokens, **options}
    )


def sizes(kind: str) -> dict[str, Any]:
    """A small configuration of the family `kind`, in its own words."""
    if kind == "DistilBert":
        return {"dim": WIDTH, "hidden_dim": 32, "n_layers": 1, "n_heads": 2}
    if kind == "GPT2":
        return {"n_embd": WIDTH, "n_layer": 1, "n_head": 2, "n_positions": POSITIONS}
    if kind == "T5":
        return {"d_model": WIDTH, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    found = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
    found |= {"intermediate_size": 32}
    if kind in ("Llama", "Qwen2", "Qwen3", "Mistral"):
        found |= {"num_key_value_heads": 1, "head_dim": 8}
    if kind in ("Albert", "Electra"):
        found |= {"embedding_size": WIDTH}
    return found


def network(kind: str, head: str = "Model", **options: Any) -> Any:
    """A network of the family `kind` with random weights, the same ones each time."""
    torch.manual_seed(1)
    values = {"vocab_size": 120, "max_position_embeddings": POSITIONS, "pad_token_id": 0}
    values |= {"bos_token_id": 2, "eos_token_id": 3} if kind != "T5" else {}
    config = getattr(transformers, f"{kind}Config")(**{**values, **sizes(kind), **options})
    return getattr(transformers, f"{kind}{head}")(config).eval()


def sentence_folder(
    path: Path,
    *,
    kind: str = "Bert",
    options: Mapping[str, Any] | None = None,
    tokenizer: Any = None,
    modules: str = "Pooling",
    settings: Mapping[str, Any] | None = None,
    own: Mapping[str, Any] | None = None,
    pooling: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """A folder of sentence-transformers with `modules` behind its network, each in a folder `1_Pooling`, ...."""
    network(kind, **(options or {})).save_pretrained(path)
    (words_tokenizer() if tokenizer is None else tokenizer).save_pretrained(path)
    listed = [{"idx": 0, "name": "0", "path": "", "type": TYPES + "Transformer"}]
    for place, name in enumerate(modules.split(), 1):
        where = f"{place}_{name}"
        listed.append({"idx": place, "name": str(place), "path": where, "type": TYPES + name})
        (path / where).mkdir(exist_ok=True)
    write(path / "modules.json", listed)
    for place, name in enumerate(modules.split(), 1):
        if name == "Pooling":
            values = pooling or {"pooling_mode_mean_tokens": True}
            write(
                path / f"{place}_Pooling/config.json",
                {"word_embedding_dimension": WIDTH, **values},
            )
    if settings != {}:
        write(path / "sentence_bert_config.json", settings or {"max_seq_length": LENGTH})
    write(path / "config_sentence_transformers.json", own or {})
    if config:
        update(path / "config.json", **config)


def module(path: Path, values: Mapping[str, Any], **weights: torch.Tensor) -> None:
    """The settings and the weights of a module behind the network."""
    write(path / "config.json", values)
    if weights:
        named = {name.replace("__", "."): tensor for name, tensor in weights.items()}
        save_file(named, path / "model.safetensors")


def dense(path: Path, *, out: int = 8, inner: int = WIDTH, **values: Any) -> None:
    """A dense module; `activation` is a name in torch.nn."""
    torch.manual_seed(2)
    weights = {"linear__weight": torch.randn(out, inner)}
    if values.get("bias", True):
        weights["linear__bias"] = torch.randn(out)
    if values.get("use_residual") and out != inner:
        weights["residual__weight"] = torch.randn(out, inner)
    activation = values.pop("activation", None)
    if activation is not None:
        values["activation_function"] = f"torch.nn.modules.{activation}"
    if activation == "activation.PReLU":
        weights["activation_function__weight"] = torch.tensor([0.3])
    found = {"in_features": inner, "out_features": out, "bias": True, **values}
    module(path, found, **weights)


def classifier_folder(
    path: Path,
    *,
    kind: str = "Bert",
    head: str = "ForSequenceClassification",
    tokenizer: Any = None,
    config: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """A classifier of transformers with three labels."""
    network(kind, head, **{"num_labels": 3, **options}).save_pretrained(path)
    (words_tokenizer() if tokenizer is None else tokenizer).save_pretrained(path)
    if config:
        update(path / "config.json", **config)


def sentence(name: str, refused: str | None = None, **options: Any) -> Variation:
    """A folder of sentence-transformers made with `options`; those of a variation are taken out first."""
    own = {
        key: options.pop(key)
        for key in ("arguments", "is_exported", "without", "atol")
        if key in options
    }
    then = options.pop("then", None)

    def make(path: Path) -> None:
        sentence_folder(path, **{k: v() if callable(v) else v for k, v in options.items()})
        if then is not None:
            then(path)

    return Variation(name, make, refused, **own)


def classifier(name: str, refused: str | None = None, **options: Any) -> Variation:
    """A classifier of transformers made with `options`."""
    own = {key: options.pop(key) for key in ("arguments", "without", "atol") if key in options}
    then = options.pop("then", None)

    def make(path: Path) -> None:
        classifier_folder(path, **{k: v() if callable(v) else v for k, v in options.items()})
        if then is not None:
            then(path)

    return Variation(name, make, refused, **own)


def tokenizer_json(path: Path, **values: Any) -> None:
    """Sections of tokenizer.json, as `save` of the tokenizers library leaves them."""
    update(path / "tokenizer.json", **values)


def added_tokens() -> Any:
    """A tokenizer to which a word and a special token were added."""
    made = words_tokenizer()
    made.add_tokens([AddedToken("tall tree", normalized=False)])
    made.add_special_tokens({"additional_special_tokens": ["<ent>"]})
    return made


def flags(*modes: str) -> dict[str, Any]:
    """The settings of a pooling, as older folders have them."""
    return {f"pooling_mode_{mode}": True for mode in modes}
