"""sentence-transformers or transformers, on the folder that a model was made of."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final

from kvspark.errors import ModelError
from kvspark.model.own.runtime import Array, OwnRuntime, Row, RunRow, named
from kvspark.model.own.torch_module import HALVES, plain
from kvspark.model.pretrained.prompt import FILE, Prompt, chosen_prompt
from kvspark.model.pretrained.transformer import CONFIG_FILE, read_json
from kvspark.spec import TensorSpec

_MODULES = "modules.json"
_LIBRARY = "sentence_transformers"


@final
class PretrainedFolder(OwnRuntime):
    """The library that wrote a folder, on one text or picture at a time.

    A sentence-transformers folder is read by sentence-transformers where it is installed, else by
    transformers' network and tokenizer with the folder's pooling as kvspark reads it.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        max_length: int | None = None,
        long_texts: str = "cut",
        dtype: str | None = None,
        prompt: Prompt | None = None,
        truncate_dim: int | None = None,
    ) -> None:
        self._path = Path(path).absolute()
        self._max_length = max_length
        self._long_texts = long_texts
        self._dtype = dtype
        self.prompt = prompt or Prompt()
        self.truncate_dim = truncate_dim

    @property
    def name(self) -> str:
        library = "transformers"
        if self._is_sentence:
            library = _LIBRARY.replace("_", "-")
            if find_spec(_LIBRARY) is None:
                library = f"transformers, with the folder's pooling ({library} is not installed),"
        return f"{library} on {self._path.name}"

    @property
    def is_half(self) -> bool:
        own = read_json(self._path / CONFIG_FILE, {}, expected="a folder of transformers")
        dtype = self._dtype or own.get("dtype") or own.get("torch_dtype")
        return dtype in HALVES

    @property
    def _is_sentence(self) -> bool:
        return (self._path / _MODULES).exists()

    def open(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> RunRow:
        if not self._path.is_dir():
            raise ModelError(
                f"{self._path} is gone; put the folder of the model back, or pass runtime="
            )
        (taken,) = inputs
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not self._is_sentence:
                return _classified(self, taken.name, outputs)
            if find_spec(_LIBRARY) is not None:
                return _sentences(self, taken.name, outputs)
        return _pooled(self, taken.name, outputs)

    @property
    def path(self) -> Path:
        """The folder."""
        return self._path

    @property
    def max_length(self) -> int | None:
        """The tokens that a text is cut at; the folder's own limit without it."""
        return self._max_length

    @property
    def options(self) -> dict[str, Any]:
        """What transformers is told when it loads the network."""
        import torch

        dtype = {} if self._dtype is None else {"dtype": getattr(torch, self._dtype)}
        return {"local_files_only": True, "use_safetensors": True, **dtype}

    def checked(self, text: str, tokens: Callable[[str], int], most: int) -> str:
        """`text`, if it is one that is cut or has at most `most` tokens.

        Raises:
            ModelError: it is longer, and a longer text is a bad row.
        """
        if self._long_texts == "bad" and tokens(text) > most:
            raise ModelError(f"the text has more than {most} tokens")
        return text


def _sentences(folder: PretrainedFolder, taken: str, outputs: Sequence[TensorSpec]) -> RunRow:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(folder.path), device="cpu", local_files_only=True, model_kwargs=folder.options
    )
    if folder.max_length is not None:
        model.max_seq_length = folder.max_length
    most = int(model.max_seq_length or 1 << 20)
    chosen: dict[str, Any] = {
        "prompt": folder.prompt.text,
        "prompt_name": folder.prompt.name,
        "truncate_dim": folder.truncate_dim,
    }

    named_prompts = read_json(folder.path / FILE, {}, expected="settings")
    lead = chosen_prompt(folder.path, named_prompts, folder.prompt)

    def count(text: str) -> int:
        return len(model.tokenizer(lead + text, truncation=False)["input_ids"])

    def run(row: Row) -> Mapping[str, Array]:
        text = folder.checked(row[taken], count, most)
        made = model.encode(
            [text], batch_size=1, convert_to_tensor=True, show_progress_bar=False, **chosen
        )
        return named(plain(made.float()), outputs)

    return run


def _pooled(folder: PretrainedFolder, taken: str, outputs: Sequence[TensorSpec]) -> RunRow:
    import torch

    from kvspark.model.pretrained.sentence import load_sentence_encoder, sentence_tokenizer

    module, features = load_sentence_encoder(
        folder.path,
        max_length=folder.max_length,
        prompt=folder.prompt,
        truncate_dim=folder.truncate_dim,
    )
    tokenizer = sentence_tokenizer(folder.path)
    names = [spec.name for spec in features.outputs]
    most = features.max_length

    def run(row: Row) -> Mapping[str, Array]:
        text = features.prompt + row[taken]
        folder.checked(text, lambda one: len(tokenizer(one)["input_ids"]), most)
        given = tokenizer(text, truncation=True, max_length=most, return_tensors="pt")
        with torch.inference_mode():
            made = module(**{name: given[name] for name in names})
        return {spec.name: plain(made[spec.name].float())[0] for spec in outputs}

    return run


def _classified(folder: PretrainedFolder, taken: str, outputs: Sequence[TensorSpec]) -> RunRow:
    import torch
    import transformers

    config = read_json(folder.path / CONFIG_FILE, expected="a folder of transformers")
    (architecture,) = config["architectures"]
    network = getattr(transformers, str(architecture)).from_pretrained(
        str(folder.path), **folder.options
    )
    network.eval()
    given = _pictures(folder, network) if taken == "image" else _texts(folder, network)
    several = config.get("problem_type") == "multi_label_classification"

    def run(row: Row) -> Mapping[str, Array]:
        arguments, offsets = given(row[taken])
        with torch.inference_mode():
            logits = network(**arguments).logits
        wide = logits.float()
        scores = wide.sigmoid() if several else wide.softmax(dim=-1)
        made = {
            "logits": wide,
            "scores": scores,
            "label": wide.argmax(dim=-1),
            "score": scores.amax(dim=-1),
            "offsets": offsets,
        }
        return {spec.name: plain(made[spec.name])[0] for spec in outputs}

    return run


def _texts(folder: PretrainedFolder, network: Any) -> Callable[[Any], tuple[dict[str, Any], Any]]:
    import inspect

    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder.path), local_files_only=True)
    positions = getattr(network.config, "max_position_embeddings", None) or 1 << 20
    most = folder.max_length or int(min(tokenizer.model_max_length, positions))
    taken = inspect.signature(network.forward).parameters

    def given(text: str) -> tuple[dict[str, Any], Any]:
        folder.checked(text, lambda one: len(tokenizer(one)["input_ids"]), most)
        made = tokenizer(
            text,
            truncation=True,
            max_length=most,
            return_tensors="pt",
            return_offsets_mapping=True,
        )
        offsets = made.pop("offset_mapping")
        return {name: one for name, one in made.items() if name in taken}, offsets

    return given


def _pictures(
    folder: PretrainedFolder, network: Any
) -> Callable[[Any], tuple[dict[str, Any], Any]]:
    from PIL import Image, ImageOps
    from transformers import AutoImageProcessor

    processor = AutoImageProcessor.from_pretrained(str(folder.path), local_files_only=True)

    converts = bool(getattr(processor, "do_convert_rgb", None))

    def given(content: bytes) -> tuple[dict[str, Any], Any]:
        with Image.open(io.BytesIO(content)) as picture:
            # As transformers' own pipeline opens a file.
            turned = ImageOps.exif_transpose(picture)
            images = turned if converts else turned.convert("RGB")
            made = processor(images=images, return_tensors="pt")
        pixels = made["pixel_values"].to(network.dtype)
        return {"pixel_values": pixels}, None

    return given
