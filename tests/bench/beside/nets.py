"""The networks that are scored, as plain torch modules: what a user brings."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from kvspark.demo.classifier import WIDTH

CLASSES = 26
FEATURES = 16
SIDE = 32
"""Numbers that a tower gets."""
TOWER = 64
"""Numbers that it gives."""


@final
class TextHead(nn.Module):
    """vectors: float32 (batch, 384) -> the probability of each class, float32 (batch, 26)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, CLASSES)

    def forward(self, vectors: Tensor) -> Tensor:
        scaled: Tensor = self.linear(vectors)
        return (8 * scaled).softmax(dim=1)


@final
class TextNet(nn.Module):
    """A text encoder, and a classifier on top of its vectors."""

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        scores: Tensor = self.head(self.trunk(input_ids, attention_mask))
        return scores


@final
class Tabular(nn.Module):
    """x: float32 (batch, 16) -> float32 (batch, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(FEATURES, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2)
        )

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layers(x)
        return made


@final
class Pairs(nn.Module):
    """user, item: float32 (batch, 32) -> float32 (batch,): two towers and a head over what they give."""

    def __init__(self, head: str) -> None:
        super().__init__()
        self.user_tower = _tower()
        self.item_tower = _tower()
        self.head = HEADS[head]()

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        score: Tensor = self.head(self.user_tower(user), self.item_tower(item))
        return score


def _tower() -> nn.Sequential:
    return nn.Sequential(nn.Linear(SIDE, 256), nn.ReLU(), nn.Linear(256, TOWER))


@final
class Dot(nn.Module):
    """How well two vectors agree."""

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return (user * item).sum(dim=1)


@final
class Cosine(nn.Module):
    """The cosine of the angle between two vectors."""

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        return nn.functional.cosine_similarity(user, item, dim=1)


@final
class Joined(nn.Module):
    """An MLP over both vectors, one behind the other."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * TOWER, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        score: Tensor = self.layers(torch.cat([user, item], dim=1)).squeeze(1)
        return score


HEADS: dict[str, Callable[[], nn.Module]] = {
    "dot": Dot,
    "cosine": Cosine,
    "mlp": lambda: Joined(16),
    "wide": lambda: Joined(512),
}
