"""Text features: a Hugging Face tokenizer as the first stage of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt

from kvspark.errors import BundleError, ModelError, UsageError
from kvspark.fingerprint import digest
from kvspark.model.features.features import Features, row_error
from kvspark.model.run.computation import Computation
from kvspark.model.stage.stage import Stage
from kvspark.spec import STRING, Rows, TensorSpec

if TYPE_CHECKING:
    import torch

TOKENIZER_FILE = "tokenizer.json"
SETTINGS_FILE = "text.json"
COLUMNS = ("input_ids", "attention_mask", "token_type_ids", "offset_mapping")
"""What a tokenizer gives for each token; the last is where it begins and ends in the text, in code points."""

_LONG_TEXTS = "long_texts"
"""The setting that says what becomes of longer texts; bundles that cut them have none."""
_DEFAULTS: Mapping[str, Any] = {
    _LONG_TEXTS: "cut",
    "prompt": "",
    "truncation_side": "right",
    "split_special_tokens": False,
}
"""Settings that a bundle has only where they are others, so that the rest keep their fingerprints."""

Column = npt.NDArray[np.int64]


@final
class TextFeatures(Features):
    """Tokens of one text column: input `text`, outputs `input_ids`, `attention_mask`, ...

    Texts are cut at `max_length` tokens, as sentence-transformers does, or longer ones are bad rows. The
    tokenizer is hashed with its padding and truncation off, because both change when somebody uses it.
    """

    kind = "text"
    libraries = ("tokenizers",)

    def __init__(
        self,
        tokenizer: str,
        *,
        max_length: int,
        pad_id: int = 0,
        columns: Sequence[str] = COLUMNS[:2],
        long_texts: str = "cut",
        prompt: str = "",
        truncation_side: str = "right",
        split_special_tokens: bool = False,
    ) -> None:
        """Features of `tokenizer`, the text of a tokenizer.json; `long_texts` are `cut` or `bad` rows.

        `prompt` is put in front of each text, which is cut at `truncation_side`; `split_special_tokens`
        reads the name of a special token in a text as any other text.

        Raises:
            UsageError: `max_length` is not positive, `columns` names what a tokenizer does not give, or
                `long_texts` or `truncation_side` is something else.
        """
        if long_texts not in ("cut", "bad"):
            raise UsageError(f"long_texts is cut or bad, got {long_texts!r}")
        if truncation_side not in ("right", "left"):
            raise UsageError(f"truncation_side is right or left, got {truncation_side!r}")
        unknown = [name for name in columns if name not in COLUMNS]
        if unknown:
            raise UsageError(f"a tokenizer gives {', '.join(COLUMNS)}; got {unknown[0]!r}")
        if max_length < 1:
            raise UsageError(f"max_length must be at least 1 token, got {max_length}")
        self._tokenizer = json.dumps(json.loads(tokenizer), sort_keys=True, ensure_ascii=False)
        self._settings: dict[str, Any] = {
            "max_length": max_length,
            "pad_id": pad_id,
            "columns": list(columns),
        }
        others = {
            _LONG_TEXTS: long_texts,
            "prompt": prompt,
            "truncation_side": truncation_side,
            "split_special_tokens": split_special_tokens,
        }
        self._settings.update({k: v for k, v in others.items() if v != _DEFAULTS[k]})

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        max_length: int | None = None,
        columns: Sequence[str] = COLUMNS[:2],
    ) -> TextFeatures:
        """Features of the tokenizer in the folder `path`; `max_length` defaults to the folder's own.

        Raises:
            ModelError: the folder holds no tokenizer that can be written as tokenizer.json.
        """
        return cls.from_tokenizer(load_tokenizer(path), max_length=max_length, columns=columns)

    @classmethod
    def from_tokenizer(
        cls,
        loaded: Any,
        *,
        max_length: int | None = None,
        pad_id: int | None = None,
        columns: Sequence[str] = COLUMNS[:2],
        prompt: str = "",
    ) -> TextFeatures:
        """Features of a fast tokenizer of transformers; the two numbers default to its own.

        Texts are cut at its `truncation_side`. Its `padding_side` counts for nothing: a row has the
        result that it has alone.
        """
        backend = loaded.backend_tokenizer
        # It keeps what it was last used with.
        backend.no_padding()
        backend.no_truncation()
        return cls(
            backend.to_str(),
            max_length=max_length or own_length(loaded),
            pad_id=pad_id if pad_id is not None else loaded.pad_token_id or 0,
            columns=columns,
            prompt=prompt,
            truncation_side=loaded.truncation_side,
            split_special_tokens=bool(getattr(loaded, "split_special_tokens", False)),
        )

    @property
    def max_length(self) -> int:
        """The tokens at which a text is cut, those around it included."""
        return int(self._settings["max_length"])

    @property
    def prompt(self) -> str:
        """What is put in front of each text."""
        return str(self._settings.get("prompt", ""))

    def with_settings(self, **settings: Any) -> TextFeatures:
        """These features with other keywords of `TextFeatures(...)`."""
        return TextFeatures(self._tokenizer, **{**self._settings, **settings})

    def with_longer_bad(self) -> TextFeatures:
        """These features, for which a text of more than `max_length` tokens is a bad row and is not cut."""
        return self.with_settings(**{_LONG_TEXTS: "bad"})

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("text", STRING),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name, "int64", (None, 2) if name == COLUMNS[3] else (None,))
            for name in self._settings["columns"]
        )

    @property
    def pads(self) -> Mapping[str, int]:
        pad_id = self._settings["pad_id"]
        return {name: pad_id if name == COLUMNS[0] else 0 for name in self._settings["columns"]}

    @property
    def content(self) -> bytes:
        tokenizer = blake2b(self._tokenizer.encode(), digest_size=32).digest()
        return digest("kvspark.text", {"tokenizer": tokenizer, "settings": self._settings})

    def write(self, folder: Path) -> None:
        (folder / TOKENIZER_FILE).write_text(self._tokenizer, encoding="utf-8")
        (folder / SETTINGS_FILE).write_text(json.dumps(self._settings, sort_keys=True))

    def computation(self) -> TextComputation:
        return TextComputation(self._tokenizer, self._settings, self.kind)

    def example(self) -> dict[str, torch.Tensor]:
        import torch

        columns = self.computation().run(
            [["An example text.", "Another one, that is a little longer."]]
        )
        pads = self.pads
        tensors = {}
        for spec, rows in zip(self.outputs, columns, strict=True):
            longest = max(len(row) for row in rows)
            shape = (len(rows), longest, *(dim or 0 for dim in spec.shape[1:]))
            padded = np.full(shape, pads[spec.name], dtype=np.int64)
            for i, row in enumerate(rows):
                padded[i, : len(row)] = row
            tensors[spec.name] = torch.from_numpy(padded)
        return tensors


@final
class TextComputation(Computation):
    """The tokenizer itself; releases the interpreter lock while it works."""

    def __init__(self, tokenizer: str, settings: Mapping[str, Any], stage: str) -> None:
        from tokenizers import Tokenizer

        self._stage = stage
        chosen = {**_DEFAULTS, **settings}
        self._max_length: int = chosen["max_length"]
        self._cuts = chosen[_LONG_TEXTS] == "cut"
        self._prompt: str = chosen["prompt"]
        self._columns = tuple(settings["columns"])
        self._tokenizer = Tokenizer.from_str(tokenizer)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(
            max_length=self._max_length, direction=chosen["truncation_side"]
        )
        self._tokenizer.encode_special_tokens = chosen["split_special_tokens"]

    @classmethod
    def open(cls, stage: Stage, files: Mapping[str, Path]) -> TextComputation:
        """The tokenizer of a bundle.

        Raises:
            BundleError: its files cannot be read.
        """
        try:
            settings = json.loads(files[SETTINGS_FILE].read_text())
            return cls(files[TOKENIZER_FILE].read_text(encoding="utf-8"), settings, stage.name)
        except (OSError, KeyError, ValueError) as error:
            raise BundleError(
                f"stage {stage.name!r}: its files cannot be read ({type(error).__name__})"
            ) from error

    def run(self, arguments: Sequence[Any]) -> tuple[Rows, ...]:
        (texts,) = arguments
        # A lone surrogate is legal in a Spark string and not in UTF-8; Rust would refuse it.
        clean = [self._prompt + text.encode("utf-8", "replace").decode() for text in texts]
        encode = self._tokenizer.encode_batch_fast
        if COLUMNS[3] in self._columns:  # the fast one keeps no offsets
            encode = self._tokenizer.encode_batch
        encodings = encode(clean)
        if not self._cuts:
            for row, one in enumerate(encodings):
                if one.overflowing:
                    raise row_error(
                        self._stage, row, f"the text has more than {self._max_length} tokens"
                    )
        return tuple([_column(name, one) for one in encodings] for name in self._columns)


def load_tokenizer(path: str | Path) -> Any:
    """The fast tokenizer of transformers in the folder `path`.

    Raises:
        ModelError: the folder holds no tokenizer that can be written as tokenizer.json.
    """
    from transformers import AutoTokenizer

    try:
        loaded: Any = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
        _ = loaded.backend_tokenizer
    # What transformers raises for a missing or a damaged file differs from class to class.
    except Exception as error:
        raise ModelError(
            f"{path} holds no fast tokenizer ({type(error).__name__}); expected a tokenizer.json"
        ) from error
    return loaded


def own_length(loaded: Any) -> int:
    """The tokens that a tokenizer of transformers cuts a text at."""
    return min(int(loaded.model_max_length), 1 << 20)


def _column(name: str, encoding: Any) -> Column:
    if name == COLUMNS[1]:
        return np.ones(len(encoding.ids), dtype=np.int64)
    if name == COLUMNS[3]:
        return np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
    return np.array(encoding.ids if name == COLUMNS[0] else encoding.type_ids, dtype=np.int64)
