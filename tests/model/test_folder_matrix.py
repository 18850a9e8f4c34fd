"""Every variation of a pretrained folder has the library's own numbers, row by row, or is refused by the key."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from kvspark.errors import KvsparkError
from kvspark.infer.model import Model
from kvspark.model.pretrained.prompt import Prompt
from kvspark.model.pretrained.source import load_pretrained
from tests.model.folder_matrix import TEXTS, Variation
from tests.model.folder_variations import VARIATIONS

pytestmark = pytest.mark.slow

EQUAL = [one for one in VARIATIONS if one.refused is None]
REFUSED = [one for one in VARIATIONS if one.refused is not None]


def texts_of(variation: Variation) -> list[str]:
    return [text for kind, text in TEXTS.items() if kind not in variation.without]


def by_library(folder: Path, variation: Variation) -> list[np.ndarray[Any, Any]]:
    """What the library gives for each text alone."""
    texts, arguments = texts_of(variation), dict(variation.arguments)
    if not (folder / "modules.json").exists():
        return by_transformers(folder, texts, arguments.pop("max_length", None))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu")
        length = arguments.pop("max_length", None)
        if length is not None:
            model.max_seq_length = length
        return [row.float().numpy() for row in (encoded(model, t, arguments) for t in texts)]


def encoded(model: Any, text: str, arguments: dict[str, Any]) -> torch.Tensor:
    made = model.encode([text], batch_size=1, convert_to_tensor=True, **arguments)
    return made[0]


def by_transformers(
    folder: Path, texts: list[str], length: int | None
) -> list[np.ndarray[Any, Any]]:
    head = "TokenClassification" if "Token" in architecture(folder) else "SequenceClassification"
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    network: Any = getattr(transformers, f"AutoModelFor{head}").from_pretrained(folder)
    network.config.return_dict = True
    made = []
    for text in texts:
        options = {} if length is None else {"max_length": length}
        given = tokenizer(text, truncation=True, return_tensors="pt", **options)
        with torch.inference_mode():
            made.append(network(**given).logits[0].numpy())
    return made


def architecture(folder: Path) -> str:
    return str(transformers.AutoConfig.from_pretrained(folder).architectures[0])


def loaded(folder: Path, variation: Variation) -> list[np.ndarray[Any, Any]]:
    """What kvspark's module gives for each text alone, before it is exported."""
    arguments = dict(variation.arguments)
    prompt = Prompt(arguments.pop("prompt", None), arguments.pop("prompt_name", None))
    module, features = load_pretrained(folder, **{"max_length": None, **arguments}, prompt=prompt)
    made = []
    for text in texts_of(variation):
        columns = features.computation().run([[text]])
        rows = {
            spec.name: torch.from_numpy(values[0]).unsqueeze(0)
            for spec, values in zip(features.outputs, columns, strict=True)
        }
        with torch.inference_mode():
            outputs = module(**rows)
        made.append(outputs["embedding" if "embedding" in outputs else "logits"][0].float().numpy())
    return made


def compare(ours: Any, theirs: Any, variation: Variation) -> None:
    for kind, mine, right in zip(
        [kind for kind in TEXTS if kind not in variation.without], ours, theirs, strict=True
    ):
        np.testing.assert_allclose(
            np.asarray(mine), right, atol=variation.atol, rtol=1e-4, err_msg=kind
        )


@pytest.mark.parametrize("variation", EQUAL, ids=lambda one: one.name)
def test_a_setting_is_applied_as_the_library_applies_it(
    variation: Variation, tmp_path: Path
) -> None:
    variation.make(tmp_path)
    theirs = by_library(tmp_path, variation)
    compare(loaded(tmp_path, variation), theirs, variation)
    if variation.is_exported:
        model = Model.from_pretrained(tmp_path, **variation.arguments)
        compare(model.predict({"text": texts_of(variation)})["embedding"], theirs, variation)


@pytest.mark.parametrize("variation", REFUSED, ids=lambda one: one.name)
def test_a_setting_that_is_not_applied_is_refused_by_its_name(
    variation: Variation, tmp_path: Path
) -> None:
    variation.make(tmp_path)
    with pytest.raises(KvsparkError, match=variation.refused) as refused:
        Model.from_pretrained(tmp_path, **variation.arguments)
    assert "\n" not in refused.value.line()
    assert refused.value.exit_code in (64, 65)


def test_the_matrix_has_both_kinds_and_no_name_twice() -> None:
    names = [one.name for one in VARIATIONS]
    assert len(set(names)) == len(names)
    assert len(EQUAL) >= 60
    assert len(REFUSED) >= 30
