"""Small torch modules with fixed weights, for tests that need a model and not its quality."""

from __future__ import annotations

from typing import TypeVar

import torch

M = TypeVar("M", bound=torch.nn.Module)


def seeded(module: M, seed: int = 7) -> M:
    """`module` in eval mode, every parameter drawn anew from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return module.eval()


class Mlp(torch.nn.Module):
    """A trunk and a head on 8 features."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU())
        self.head = torch.nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        scores = self.head(self.trunk(x))
        return {"scores": scores, "label": scores.argmax(dim=-1)}


class Towers(torch.nn.Module):
    """Two towers that meet in a product."""

    def __init__(self) -> None:
        super().__init__()
        self.user = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU())
        self.item = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU())

    def forward(self, user: torch.Tensor, item: torch.Tensor) -> torch.Tensor:
        return (self.user(user) * self.item(item)).sum(dim=-1)


class Skip(torch.nn.Module):
    """A skip connection around `middle`, from behind heavy work."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = torch.nn.Linear(width, width)
        self.middle = torch.nn.Linear(width, width)
        self.last = torch.nn.Linear(width, 2)
        self.dropout = torch.nn.Dropout(0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        before = self.first(x)
        after = torch.relu(self.middle(before))
        return self.dropout(self.last(after + before.view(before.size(0), -1)))


class Encoder(torch.nn.Module):
    """A one-layer transformer with a mask, and a head on its tokens or on their mean."""

    def __init__(self, *, per_token: bool = False) -> None:
        super().__init__()
        self.per_token = per_token
        self.embed = torch.nn.Embedding(50, 16)
        self.layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, dropout=0.0)
        self.head = torch.nn.Linear(16, 4)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.layer(self.embed(input_ids), src_key_padding_mask=attention_mask == 0)
        if self.per_token:
            return self.head(hidden)
        mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
        return self.head((hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9))


def encoder_examples() -> dict[str, torch.Tensor]:
    """Two rows for `Encoder`."""
    return {
        "input_ids": torch.tensor([[1, 2, 3, 4, 5], [6, 7, 8, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    }
