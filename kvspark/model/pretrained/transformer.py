"""The network in a folder that `save_pretrained` wrote, with the weights that the folder holds and no others."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kvspark.errors import ModelError

if TYPE_CHECKING:
    # Bundles import this file, and a worker whose rows are all hits imports no torch.
    import torch

CONFIG_FILE = "config.json"

_SAFE = "*.safetensors"
_UNSAFE = ("*.bin", "*.h5", "*.msgpack", "*.ckpt", "*.pt", "*.pth")


def load_transformer(
    folder: Path, auto_class: str, *, unused: str | None = None
) -> torch.nn.Module:
    """The network of `folder` in eval mode, loaded by the class of transformers that `auto_class` names.

    `unused` is a pattern for the names of weights that no result depends on and the folder may lack.

    Raises:
        ModelError: weights are missing, are no safetensors, or are not what this release can load.
    """
    _check_files(folder)
    import transformers
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model, info = getattr(transformers, auto_class).from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    # transformers raises what it likes: an unknown model type, a missing package, another shape.
    except Exception as error:
        raise ModelError(
            f"{folder}: this release of transformers cannot load it as {auto_class} "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    missing = sorted(
        name for name in info["missing_keys"] if unused is None or not re.match(unused, name)
    )
    if missing:
        # transformers draws them at random, so that no two runs would agree.
        raise ModelError(
            f"{folder} has no weights for {missing[0]} (and {len(missing) - 1} more); train the model, "
            "and save it whole with save_pretrained"
        )
    made: torch.nn.Module = model.eval()
    return made


def read_json(path: Path, default: Any = None, *, expected: str) -> Any:
    """The value in the file `path`; `default` where there is no such file.

    Raises:
        ModelError: the file cannot be read, or is missing and there is no default.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if default is not None:
            return default
        raise ModelError(f"{path} is missing: expected {expected}") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__})") from error


def first_line(error: Exception) -> str:
    """The first line of a foreign error that says something, cut at 200 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else "no reason given"


def _check_files(folder: Path) -> None:
    """Raises ModelError if the folder holds an adapter, or weights that a pickle would unpack."""
    if not any(folder.glob(_SAFE)):
        if (folder / "adapter_config.json").is_file() or not any(
            path for pattern in _UNSAFE for path in folder.glob(pattern)
        ):
            raise ModelError(f"{folder} holds no weights; expected {_SAFE} beside {CONFIG_FILE}")
        raise ModelError(
            f"{folder} holds its weights as a pickle, which runs code when it is read; convert them "
            "once where you trust them: AutoModel....from_pretrained(folder).save_pretrained(new_folder) "
            f"writes {_SAFE}"
        )
    if (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"{folder} holds an adapter; merge it with peft's merge_and_unload() and save the whole model"
        )
