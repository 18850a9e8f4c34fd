"""The tokens of a folder's texts beside those that the library gives, when a model is made.

Texts of eight kinds must have the ids, the mask and the types that the folder's own tokenizer gives; where a prompt
or lower case is put in front of the tokenizer, and sentence-transformers is installed, those that its Transformer
gives. Its import takes seconds, which is why the plain folder, where it adds nothing, is not held up by it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from kvspark.errors import ModelError
from kvspark.model.features.text import COLUMNS, TextFeatures
from kvspark.model.pretrained.transformer import first_line

Theirs = Callable[[str], Mapping[str, Sequence[int]]]

_LONGEST = 4_096
"""A tokenizer that cuts further behind is not asked to."""


def samples(max_length: int, special: Sequence[str]) -> dict[str, str]:
    """Texts by their kind; one has more than `max_length` tokens, as far as that can be tried."""
    words = "An oak is a tall Tree, and w1 w2 ".split()
    count = min(max_length, _LONGEST) + 8
    return {
        "short": "An oak is a tree: w1 w2.",
        "longer than the limit": " ".join(words[i % len(words)] for i in range(count)),
        "in upper case": "AN OAK IS A TREE, ÄÖÜ",
        "accented": "crème brûlée, naïve Ångström, e\u0301 und \u00fcber",
        "empty": "",
        "an emoji": "\U0001f333 oak \U0001f469\u200d\U0001f52c tree",
        "with special tokens": f"oak [SEP] tree <s> w1</s> [MASK] {' w2 '.join(special)} <|endoftext|>",
        "of odd spaces and scripts": "  oak\t\u6811\u6728\n\u00a0\u0434\u0443\u0431  tree ",
    }


def check_texts(
    folder: Path,
    tokenizer: Any,
    features: TextFeatures,
    *,
    network: Any = None,
    prompt: str = "",
    by_library: bool = False,
) -> None:
    """Raises ModelError if a text has other tokens than the library gives it."""
    theirs, name = _tokenizer(tokenizer, features, prompt), type(tokenizer).__name__
    _compare(folder, tokenizer, features, theirs, name)
    library = _library(folder, network, features, prompt) if by_library else None
    if library is not None:
        _compare(folder, tokenizer, features, library, "sentence-transformers")


def _compare(
    folder: Path, tokenizer: Any, features: TextFeatures, theirs: Theirs, name: str
) -> None:
    texts = samples(features.max_length, tokenizer.all_special_tokens)
    columns = [spec.name for spec in features.outputs]
    made = features.computation().run([list(texts.values())])
    for row, (kind, text) in enumerate(texts.items()):
        right = theirs(text)
        for column, values in zip(columns, made, strict=True):
            if column not in right:
                continue
            ours, expected = values[row].tolist(), list(right[column])
            if ours != expected:
                raise ModelError(
                    f"{folder}: {name} reads a text that is {kind} in another way: {_apart(column, ours, expected)}; "
                    "save the tokenizer as a tokenizer.json that does what the folder says, or use "
                    "Model.from_torch with TextFeatures of your own"
                )


def _apart(column: str, ours: list[int], expected: list[int]) -> str:
    if len(ours) != len(expected):
        return f"{len(ours)} tokens, and there {len(expected)}"
    place = next(i for i, (a, b) in enumerate(zip(ours, expected, strict=True)) if a != b)
    return f"{column} of token {place} is {ours[place]}, and there {expected[place]}"


def _tokenizer(tokenizer: Any, features: TextFeatures, prompt: str) -> Theirs:
    def read(text: str) -> Mapping[str, Sequence[int]]:
        made: Mapping[str, Sequence[int]] = tokenizer(
            prompt + text, truncation=True, max_length=features.max_length
        )
        return made

    return read


def _library(folder: Path, network: Any, features: TextFeatures, prompt: str) -> Theirs | None:
    """What sentence-transformers itself makes of a text; None where it is not installed, or is older than 6."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from sentence_transformers.base.modules import Transformer
    except ImportError:
        return None

    # The library's own class, but for the network, which is there already.
    @final
    class Reader(Transformer):
        def _load_model(self, *_: Any, **__: Any) -> Any:
            return network

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            reader: Any = Reader.load(str(folder), local_files_only=True)
            reader.max_seq_length = features.max_length
    # It raises what it likes for a folder that it cannot read either.
    except Exception as error:
        raise ModelError(
            f"{folder}: sentence-transformers itself cannot read it ({type(error).__name__}: {first_line(error)})"
        ) from error

    def read(text: str) -> Mapping[str, Sequence[int]]:
        made = reader.preprocess([text], prompt=prompt or None)
        return {name: made[name][0].tolist() for name in COLUMNS[:3] if name in made}

    return read


def reads_types(tokenizer: Any, features: TextFeatures, network: Any) -> bool:
    """True if the network takes the types of tokens, and they are not all 0, as it assumes without them."""
    name = COLUMNS[2]
    taken = inspect.signature(network.forward).parameters
    if name not in tokenizer.model_input_names or name not in taken:
        return False
    texts = list(samples(16, tokenizer.all_special_tokens).values())
    (types,) = features.with_settings(columns=(name,)).computation().run([texts])
    return any(row.any() for row in types)
