"""The token embeddings of a text as one vector, in each way of sentence-transformers' Pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch

from kvspark.errors import ModelError
from kvspark.model.pretrained.folder import refused_key

MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""What older folders have, in the order in which several vectors of a text are joined."""

_HALVES = (torch.float16, torch.bfloat16)


def pooling_modes(config: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    """The ways of pooling that the settings in `file` name, in the order of their vectors.

    Raises:
        ModelError: they name one that does not exist.
    """
    named = config.get("pooling_mode")
    if named is None:
        return tuple(mode for flag, mode in _FLAGS.items() if config.get(flag)) or ("mean",)
    modes = (named,) if isinstance(named, str) else tuple(named)
    for mode in modes:
        if mode not in MODES:
            raise refused_key(file, "pooling_mode", mode, f"expected one of {', '.join(MODES)}")
    if not modes:
        raise ModelError(f"{file}: pooling_mode names no way of pooling")
    return modes


@final
class Pooling(torch.nn.Module):
    """One vector for each text.

    Shapes: hidden (batch, length, dimensions), mask int64 (batch, length), 1 for a token; result (batch,
    modes * dimensions). The first `prompt_tokens` of a text are left out.
    """

    def __init__(self, modes: Sequence[str], prompt_tokens: int = 0) -> None:
        super().__init__()
        self._modes = tuple(modes)
        self._prompt_tokens = prompt_tokens

    def forward(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self._prompt_tokens:
            behind = torch.arange(mask.shape[1], device=mask.device) >= self._prompt_tokens
            mask = mask * behind.to(mask.dtype)
        made = [self._vector(mode, hidden, mask) for mode in self._modes]
        return made[0] if len(made) == 1 else torch.cat(made, dim=-1)

    def _vector(self, mode: str, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if mode == "cls":
            if not self._prompt_tokens:
                return hidden[:, 0]
            return _at(hidden, mask.argmax(dim=1))
        if mode == "lasttoken":
            places = torch.arange(mask.shape[1], device=mask.device)
            return _at(hidden * mask.unsqueeze(-1).to(hidden.dtype), (mask * places).amax(dim=1))
        wide = mask.unsqueeze(-1).to(hidden.dtype)
        if mode == "max":
            # A text without tokens behind its prompt has no largest value, and -inf in the library.
            least = float("-inf") if self._prompt_tokens else -1e9
            return hidden.masked_fill(wide == 0, least).max(dim=1).values
        if mode == "weightedmean":
            return _weighted_mean(hidden, mask)
        # Sums of half precision are made and divided in single: 257 ones are 256 in bfloat16.
        dtype = torch.float32 if hidden.dtype in _HALVES else None
        # In this order: it is part of the fingerprints of folders that are in use.
        total = (hidden * wide).sum(dim=1, dtype=dtype)
        # 1e-9 as in sentence-transformers: a text without tokens gives zeros, not NaN.
        count = wide.sum(dim=1, dtype=dtype).clamp(min=1e-9)
        mean = total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)
        return mean if dtype is None else mean.to(hidden.dtype)


def _at(hidden: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """The token of each row at its place."""
    index = places.reshape(-1, 1, 1).expand(-1, 1, hidden.shape[-1])
    return hidden.gather(1, index).squeeze(1)


def _weighted_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean in which the n-th token of a row weighs n times the first one."""
    dtype = torch.float32 if hidden.dtype in _HALVES else hidden.dtype
    places = torch.arange(1, mask.shape[1] + 1, device=mask.device, dtype=dtype)
    weights = mask.to(dtype).unsqueeze(-1) * places.reshape(1, -1, 1)
    total = (hidden * weights).sum(dim=1)
    return (total / weights.sum(dim=1).clamp(min=1e-9)).to(hidden.dtype)
