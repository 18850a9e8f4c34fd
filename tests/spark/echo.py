"""A model that gives back what it is given, so that its output shows what it saw."""

from __future__ import annotations

from typing import final

import torch

from kvspark.infer.model import Model


@final
class Echo(torch.nn.Module):
    """Gives back what it is given, so that outputs show what the model saw."""

    def forward(self, amounts: torch.Tensor) -> torch.Tensor:
        return amounts * 1


def echo(dtype: torch.dtype = torch.float32, width: int | None = 3) -> Model:
    """One input of `width` numbers a row, or of one number that is no list."""
    return Model.from_torch(
        Echo().eval(),
        {"amounts": torch.zeros((2,) if width is None else (2, width), dtype=dtype)},
        name="echo",
    )
