"""The settings of a pretrained folder, each of which is known, or the folder is refused by its name."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from kvspark.errors import ModelError
from kvspark.model.pretrained.folder_keys import (
    CONFIG,
    KNOWN_FILES,
    REFUSED_FILES,
    TOKENIZER_CONFIG,
    Key,
)
from kvspark.model.pretrained.transformer import CONFIG_FILE, read_json

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
TOKENIZER_FILE = "tokenizer.json"

_TASKS = {"text-classification", "token-classification", "image-classification", "ner"}
"""Tasks of pipelines whose parameters in config.json would change what comes out."""


def check_keys(file: Path, values: Mapping[str, Any], table: Mapping[str, Key]) -> None:
    """Raises ModelError for the first of `values`, read from `file`, that the table does not know or refuses."""
    for name, value in values.items():
        known = table.get(name)
        if known is None:
            raise ModelError(
                f"{file}: kvspark does not know the key {name} ({_short(value)}), nor what it changes; take it "
                "out if no result depends on it, or build the module yourself and use Model.from_torch"
            )
        check_value(file, name, value, known)


def check_value(file: Path, name: str, value: Any, known: Key) -> None:
    """Raises ModelError if `value` is not one that the key `name` of `file` may have."""
    refused = known.fate == "refused" or (
        known.only is not None
        and not any(value == one and type(value) is type(one) for one in known.only)
    )
    if refused:
        raise refused_key(file, name, value, known.advice)


def refused_key(file: Path, name: str, value: Any, advice: str) -> ModelError:
    """The refusal of a folder because of one key."""
    return ModelError(f"{file}: {name} is {_short(value)}, which kvspark does not apply; {advice}")


def check_folder(folder: Path, *, is_picture: bool = False) -> None:
    """Raises ModelError for what `folder` holds beside its network and that is neither applied nor harmless.

    Looks at the files of the folder itself, at config.json and at the tokenizer's two files.
    """
    for path in sorted(folder.iterdir()):
        _check_file(path, is_picture=is_picture)
    config = folder / CONFIG_FILE
    values = _mapping(config)
    _check_listed(config, values, CONFIG)
    _check_family(config, values)
    _check_listed(
        folder / TOKENIZER_CONFIG_FILE, _mapping(folder / TOKENIZER_CONFIG_FILE), TOKENIZER_CONFIG
    )
    _check_tokenizer(folder / TOKENIZER_FILE)


def settings(file: Path, table: Mapping[str, Key]) -> dict[str, Any]:
    """The values in the file, all of them known; empty where there is no such file.

    Raises:
        ModelError: it holds no object, or a key that is unknown or refused.
    """
    values = _mapping(file)
    check_keys(file, values, table)
    return values


def _check_file(path: Path, *, is_picture: bool) -> None:
    for pattern, advice in REFUSED_FILES.items():
        if fnmatchcase(path.name, pattern) and not (is_picture and "processor" in pattern):
            raise ModelError(
                f"{path}: a folder with a file {path.name} is not applied whole; {advice}"
            )
    if path.suffix not in (".json", ".safetensors") or not path.is_file():
        return
    if not any(fnmatchcase(path.name, pattern) for pattern in KNOWN_FILES):
        raise ModelError(
            f"{path}: kvspark does not know the file {path.name}, nor what it changes; take it out of the "
            "folder if no result depends on it"
        )


def _check_listed(file: Path, values: Mapping[str, Any], table: Mapping[str, Key]) -> None:
    for name, value in values.items():
        if name in table:
            check_value(file, name, value, table[name])


def _check_family(file: Path, values: Mapping[str, Any]) -> None:
    """Raises ModelError for keys of config.json that count in some families only."""
    embedding = values.get("position_embedding_type")
    if embedding not in (None, "absolute") and not _is_field(values, "position_embedding_type"):
        advice = f"this release of transformers has absolute positions only for {values.get('model_type')}"
        raise refused_key(file, "position_embedding_type", embedding, advice)
    tasks = values.get("task_specific_params")
    if isinstance(tasks, Mapping) and _TASKS & set(tasks):
        raise refused_key(file, "task_specific_params", tasks, "take them out, or write them out")


def _is_field(values: Mapping[str, Any], name: str) -> bool:
    from transformers import CONFIG_MAPPING

    kind = str(values.get("model_type"))
    if kind not in CONFIG_MAPPING:
        return False
    family: Any = CONFIG_MAPPING[kind]
    return hasattr(family(), name)


def _check_tokenizer(file: Path) -> None:
    """Raises ModelError if the tokenizer draws at random."""
    if not file.is_file():
        return
    model = _mapping(file).get("model") or {}
    if model.get("dropout"):
        advice = "a tokenizer that drops merges at random gives no text the same tokens twice"
        raise refused_key(file, "model.dropout", model["dropout"], advice)


def _mapping(file: Path) -> dict[str, Any]:
    values = read_json(file, {}, expected="a file of the folder") if file.exists() else {}
    if not isinstance(values, dict):
        raise ModelError(f"{file} holds a {type(values).__name__}, expected an object with keys")
    return values


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
