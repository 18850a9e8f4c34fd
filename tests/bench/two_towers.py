"""A two-tower recommender and the pairs that it scores.

The interactions are made, not collected: no package that we know carries ten thousand users under a
licence that a benchmark can rest on. Users and items have 8 hidden traits; a user's history and
clicks follow from how well theirs agree. The towers learn from them until held-out clicks are ranked
well above chance, so weights, activations and scores are such as a trained model has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import pyarrow as pa
import torch
from torch import nn

USERS, ITEMS, HISTORY, GENRES = 10_000, 1_000, 20, 18
TRAITS, WIDTH = 8, 64
STEPS, BATCH_SIZE = 160, 1_024

Batch = dict[str, torch.Tensor]


@final
class TwoTowers(nn.Module):
    """The probability that `user`, who has seen `history`, clicks on `item`."""

    def __init__(self) -> None:
        super().__init__()
        self.user_tower = UserTower()
        self.item_tower = ItemTower()
        self.bias = nn.Parameter(torch.tensor(0.0))

    def forward(
        self, user: torch.Tensor, history: torch.Tensor, item: torch.Tensor, genres: torch.Tensor
    ) -> torch.Tensor:
        agreement = (self.user_tower(user, history) * self.item_tower(item, genres)).sum(dim=1)
        return torch.sigmoid(agreement / 4 + self.bias)


@final
class UserTower(nn.Module):
    """user: int64 (batch), history: int64 (batch, 20); gives float32 (batch, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.users = _embedding(USERS, 0.05)
        self.seen = _embedding(ITEMS, 1.0)
        self.layers = _layers(2 * WIDTH)

    def forward(self, user: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        known = torch.cat([self.users(user), self.seen(history).mean(dim=1)], dim=1)
        return self.layers(known)


@final
class ItemTower(nn.Module):
    """item: int64 (batch), genres: float32 (batch, 18); gives float32 (batch, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.items = _embedding(ITEMS, 0.3)
        self.layers = _layers(WIDTH + GENRES)

    def forward(self, item: torch.Tensor, genres: torch.Tensor) -> torch.Tensor:
        return self.layers(torch.cat([self.items(item), genres], dim=1))


def _embedding(rows: int, deviation: float) -> nn.Embedding:
    # A history is a mean of 20; torch's own deviation of 1 would drown it in what a user is alone.
    made = nn.Embedding(rows, WIDTH)
    nn.init.normal_(made.weight, std=deviation)
    return made


def _layers(width: int) -> nn.Sequential:
    """The sizes that papers on retrieval at scale give: 1024, 512, 256."""
    return nn.Sequential(
        nn.Linear(width, 1024),
        nn.ReLU(),
        nn.Linear(1024, 512),
        nn.ReLU(),
        nn.Linear(512, 256),
    )


@final
@dataclass(frozen=True, slots=True)
class Catalogue:
    """The users and items, and how well they agree."""

    history: np.ndarray
    """int64 (users, 20)"""
    genres: np.ndarray
    """float32 (items, 18)"""
    user_traits: np.ndarray
    item_traits: np.ndarray

    def pairs(self, users: np.ndarray, items: np.ndarray) -> pa.Table:
        """The model's inputs for pairs, with their `id`."""
        return pa.table(
            {
                "id": np.arange(len(users)),
                "user": users,
                "history": _lists(self.history[users]),
                "item": items,
                "genres": _lists(self.genres[items]),
            }
        )

    def batch(self, users: np.ndarray, items: np.ndarray) -> Batch:
        """The model's inputs for pairs, as tensors."""
        rows = (users, self.history[users], items, self.genres[items])
        names = ("user", "history", "item", "genres")
        return {name: torch.from_numpy(row) for name, row in zip(names, rows, strict=True)}

    def clicks(self, users: np.ndarray, items: np.ndarray, chance: np.random.Generator) -> Batch:
        """Whether each user clicks: float32 (pairs,)."""
        agreement = (self.user_traits[users] * self.item_traits[items]).sum(axis=1)
        likely = 1 / (1 + np.exp(-2 * agreement))
        return {"click": torch.from_numpy((chance.random(len(users)) < likely).astype("f4"))}


def catalogue() -> Catalogue:
    """The same one every time."""
    chance = np.random.default_rng(11)
    users, items = (chance.standard_normal((count, TRAITS)) for count in (USERS, ITEMS))
    # Gumbel noise on the agreement draws from its softmax: what one likes, one has seen.
    noisy = 2 * users @ items.T + chance.gumbel(size=(USERS, ITEMS))
    history = np.argsort(-noisy, axis=1)[:, :HISTORY].astype(np.int64)
    genres = (items @ chance.standard_normal((TRAITS, GENRES)) > 1).astype(np.float32)
    return Catalogue(history, genres, users, items)


def random_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` pairs in no order; every user and every item is there if `count` allows."""
    chance = np.random.default_rng(12)
    users, items = chance.integers(0, USERS, count), chance.integers(0, ITEMS, count)
    users[:USERS] = np.arange(USERS)[:count]
    items[:ITEMS] = np.arange(ITEMS)[:count]
    order = chance.permutation(count)
    return users[order], items[order]


def trained(known: Catalogue) -> tuple[TwoTowers, float]:
    """The towers, trained briefly, and how often they rank a click above none (AUC, held out)."""
    torch.manual_seed(13)
    chance = np.random.default_rng(14)
    net = TwoTowers()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(STEPS):
        users, items = chance.integers(0, USERS, 512), chance.integers(0, ITEMS, 512)
        expected = known.clicks(users, items, chance)["click"]
        loss = nn.functional.binary_cross_entropy(net(**known.batch(users, items)), expected)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    users, items = chance.integers(0, USERS, 4_000), chance.integers(0, ITEMS, 4_000)
    clicked = known.clicks(users, items, chance)["click"].numpy() > 0
    with torch.inference_mode():
        scores = net(**known.batch(users, items)).numpy()
    return net, float((scores[clicked][:, None] > scores[~clicked][None]).mean())


def _lists(rows: np.ndarray) -> pa.ListArray:
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(rows.reshape(-1)))
