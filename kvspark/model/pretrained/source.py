"""A folder of transformers or sentence-transformers as a torch module with its features.

    modules.json                           text -> embedding, pooled and normalised as the folder says
    ...ForSequenceClassification           text -> logits, label, score     (scores with several labels a text)
    ...ForTokenClassification              text -> for each token: logits, label, score, offsets
    ...ForImageClassification              image -> logits, label, score

`label` is the position of the largest logit and `score` its softmax. Names of labels are the folder's
(`id2label`) and no part of a result, so that a label can be named anew without computing anything.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any, final

import torch

from kvspark.errors import ModelError, UsageError
from kvspark.model.features.features import Features
from kvspark.model.features.text import COLUMNS, TextFeatures, load_tokenizer, own_length
from kvspark.model.pretrained.folder import check_folder
from kvspark.model.pretrained.folder_kind import check_says_its_model
from kvspark.model.pretrained.image_processor import image_features
from kvspark.model.pretrained.positions import most_tokens
from kvspark.model.pretrained.prompt import Prompt
from kvspark.model.pretrained.sentence import load_sentence_encoder
from kvspark.model.pretrained.text_check import check_texts
from kvspark.model.pretrained.transformer import CONFIG_FILE, load_transformer, read_json

_NO_TOKEN = -1
"""An id that no text has, for a network that looks for the last token that is no padding."""

_TASKS = ("SequenceClassification", "TokenClassification", "ImageClassification")


def load_pretrained(
    path: str | Path,
    *,
    max_length: int | None,
    long_texts: str = "cut",
    prompt: Prompt | None = None,
    truncate_dim: int | None = None,
) -> tuple[torch.nn.Module, Features]:
    """The module and the features of the folder `path`, in eval mode; longer texts are cut, or `bad` rows.

    `prompt` and `truncate_dim` are for a folder of sentence-transformers, whose own they replace.

    Raises:
        ModelError: the folder is of neither kind, of another task, has a setting that is not applied, or
            cannot be loaded safely.
        UsageError: `max_length` is more than the model has positions for, no text is read, or the prompt
            or `truncate_dim` is none that the folder can have.
    """
    module, features = _loaded(Path(path), max_length, prompt or Prompt(), truncate_dim)
    if long_texts == "cut":
        return module, features
    if long_texts != "bad" or not isinstance(features, TextFeatures):
        raise UsageError(
            f"long_texts is cut or, where texts are read, bad; got {long_texts!r} for {path}"
        )
    return module, features.with_longer_bad()


def _loaded(
    folder: Path, max_length: int | None, prompt: Prompt, truncate_dim: int | None
) -> tuple[torch.nn.Module, Features]:
    check_says_its_model(folder)
    if (folder / "modules.json").exists() or not (folder / CONFIG_FILE).exists():
        return load_sentence_encoder(
            folder, max_length=max_length, prompt=prompt, truncate_dim=truncate_dim
        )
    if prompt.is_given or truncate_dim is not None:
        what = "a prompt is" if prompt.is_given else "truncate_dim is"
        raise UsageError(
            f"{what} for a folder of sentence-transformers, and {folder} has no modules.json"
        )
    architecture, task = _task(folder)
    check_folder(folder, is_picture=task == "ImageClassification")
    network: Any = load_transformer(folder, f"AutoModelFor{task}")
    # A folder may ask for tuples, whose parts have no names.
    network.config.return_dict = True
    if type(network).__name__ != architecture:
        raise ModelError(
            f"{folder} was saved as {architecture}, which this release of transformers loads as "
            f"{type(network).__name__}"
        )
    if task == "ImageClassification":
        if max_length is not None:
            raise UsageError(f"max_length is for texts, and {folder} classifies images")
        return Classifier(network, _decision(network.config)).eval(), image_features(folder)
    if network.config.pad_token_id is None and not _takes_two_rows(network):
        # It refuses two rows because it cannot tell their padding; here none is padded, as the trial will find.
        network.config.pad_token_id = _NO_TOKEN
    features = _text_features(folder, network, max_length, is_by_token=task.startswith("Token"))
    return Classifier(network, _decision(network.config)).eval(), features


def _takes_two_rows(network: torch.nn.Module) -> bool:
    ids = torch.zeros((2, 2), dtype=torch.int64)
    try:
        with torch.inference_mode():
            network(input_ids=ids)
    except ValueError:
        return False
    return True


def _task(folder: Path) -> tuple[str, str]:
    config = read_json(folder / CONFIG_FILE, expected="a folder that save_pretrained wrote")
    names = config.get("architectures") or []
    if len(names) != 1:
        raise ModelError(
            f"{folder / CONFIG_FILE} names {len(names)} architectures, expected one; save the model "
            "with save_pretrained"
        )
    found = re.fullmatch(rf".+For({'|'.join(_TASKS)})(WithTeacher)?", str(names[0]))
    if not found:
        raise ModelError(
            f"{folder} holds a {names[0]}; expected one for {', '.join(_TASKS)}, or for embeddings a "
            "sentence-transformers folder, whose modules.json says how tokens are pooled"
        )
    return str(names[0]), found[1]


@final
class Classifier(torch.nn.Module):
    """A network with a head, and what its logits mean.

    Shapes: logits (batch, labels), or (batch, length, labels) with a label for each token;
    label int64 and score float32 have one dimension less, scores float32 has the same.
    """

    def __init__(self, network: torch.nn.Module, decision: str | None) -> None:
        super().__init__()
        self.network = network
        self._decision = decision

    def forward(
        self, offset_mapping: torch.Tensor | None = None, **given: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        logits = self.network(**given).logits
        made = {"logits": logits}
        if self._decision == "several":
            made["scores"] = logits.float().sigmoid()
        elif self._decision == "one":
            made["label"] = logits.argmax(dim=-1)
            made["score"] = logits.float().softmax(dim=-1).amax(dim=-1)
        if offset_mapping is not None:
            made["offsets"] = offset_mapping.clone()
        return made


def _decision(config: Any) -> str | None:
    """`one` label a row, `several`, or None for numbers that are no labels."""
    problem = getattr(config, "problem_type", None)
    if problem == "multi_label_classification":
        return "several"
    return None if problem == "regression" or config.num_labels == 1 else "one"


def _text_features(
    folder: Path, network: Any, max_length: int | None, *, is_by_token: bool
) -> TextFeatures:
    tokenizer = load_tokenizer(folder)
    taken = inspect.signature(network.forward).parameters
    columns = [
        name for name in COLUMNS[:3] if name in tokenizer.model_input_names and name in taken
    ]
    if is_by_token:
        columns.append(COLUMNS[3])
    most = most_tokens(network)
    if max_length is not None and most is not None and max_length > most:
        raise UsageError(f"max_length {max_length} is more than the {most} tokens of {folder}")
    length = max_length or min(own_length(tokenizer), most or 1 << 20)
    pad_id = network.config.pad_token_id
    features = TextFeatures.from_tokenizer(
        tokenizer,
        max_length=length,
        pad_id=None if pad_id == _NO_TOKEN else pad_id,
        columns=columns,
    )
    check_texts(folder, tokenizer, features)
    return features
