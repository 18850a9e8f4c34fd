"""What is put in front of a text before it is read, as sentence-transformers' `encode` chooses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from kvspark.errors import UsageError
from kvspark.model.pretrained.folder import refused_key

FILE = "config_sentence_transformers.json"


@final
@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, or the name of one of the folder's; the folder's own default where neither is given."""

    text: str | None = None
    """What is put in front; "" for nothing, whatever the folder's default is."""
    name: str | None = None

    @property
    def is_given(self) -> bool:
        """True if the folder's default does not count."""
        return self.text is not None or self.name is not None


def chosen_prompt(folder: Path, own: Mapping[str, Any], given: Prompt) -> str:
    """The prompt of the folder with settings `own`, "" for none.

    Raises:
        UsageError: a text and a name are given, or the folder has no prompt of that name.
        ModelError: the folder's prompts are no texts, or its default is none of them.
    """
    file = folder / FILE
    prompts = own.get("prompts") or {}
    if not isinstance(prompts, Mapping) or not all(
        isinstance(text, str | None) for text in prompts.values()
    ):
        raise refused_key(file, "prompts", prompts, "expected a text for each name")
    default = own.get("default_prompt_name")
    if default is not None and default not in prompts:
        known = ", ".join(map(repr, prompts)) or "none"
        raise refused_key(file, "default_prompt_name", default, f"prompts has {known}")
    if given.text is not None and given.name is not None:
        raise UsageError("pass prompt or prompt_name, not both")
    if given.text is not None:
        return given.text
    if given.name is not None and given.name not in prompts:
        known = ", ".join(map(repr, prompts)) or "none"
        raise UsageError(f"prompt_name {given.name!r} is no prompt of {folder}; it has {known}")
    name = given.name if given.name is not None else default
    return "" if name is None else prompts[name] or ""


def lower_case(tokenizer: Any) -> None:
    """Makes a tokenizer of transformers read every text in lower case, the names of special tokens excepted."""
    from tokenizers.normalizers import Lowercase, Sequence

    backend = tokenizer.backend_tokenizer
    found = backend.normalizer
    parts: list[Any] = [] if found is None else [found]
    if isinstance(found, Sequence):
        parts = [found[place] for place in range(len(found))]
    if not any(isinstance(part, Lowercase) for part in parts):
        backend.normalizer = Sequence([Lowercase(), *parts])
