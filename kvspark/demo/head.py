"""Training of the demo's head on the trunk's vectors: seconds, and the same head every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from kvspark.demo.classifier import WIDTH, Head
from kvspark.errors import DataError

HELD_OUT = 0.2
"""The part of the rows that no head is trained on, drawn by a hash of the id."""

L2 = 3e-5
"""Weight of the squared weights in the loss; the best of 1e-3 ... 1e-6 on rows of the first night."""

MAX_STEPS = 100


@final
@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head, and the classes that its `label_id` counts."""

    head: Head
    classes: tuple[str, ...]
    rows: int
    """Rows that it was trained on."""

    def accuracy(self, label_ids: npt.NDArray[np.int64], labels: Sequence[str]) -> float | None:
        """The part of `labels` that `label_ids` name; None without labels.

        A class that was never learnt counts as an error.
        """
        if not labels:
            return None
        named = np.array(self.classes)[label_ids]
        return float(np.mean(named == np.array(labels)))


def is_held_out(row_id: str) -> bool:
    """True for the rows that measure a head: the same ids in every night."""
    drawn = blake2b(row_id.encode(), digest_size=8, person=b"demo-held-out").digest()
    return int.from_bytes(drawn, "big") < HELD_OUT * 2**64


def train_head(vectors: npt.NDArray[np.float32], labels: Sequence[str]) -> TrainedHead:
    """Fits a linear classifier by L-BFGS over all rows at once, starting at zero.

    vectors: float32 (rows, 384). The loss is convex and nothing is drawn, so that the same rows give
    the same head on the same machine.

    Raises:
        DataError: there are fewer than two classes to tell apart.
    """
    classes = tuple(sorted(set(labels)))
    if len(classes) <= 1:
        raise DataError(f"labels to train on: got {list(classes)}, expected two classes or more")
    head = Head(len(classes))
    target = torch.from_numpy(np.searchsorted(np.array(classes), np.array(labels)))
    # A copy: what comes from Arrow cannot be written to, and torch warns of that.
    _fit(head.linear, torch.from_numpy(np.array(vectors)), target)
    return TrainedHead(head.eval(), classes, len(labels))


def _fit(linear: nn.Linear, vectors: torch.Tensor, target: torch.Tensor) -> None:
    if vectors.shape[1:] != (WIDTH,):
        raise DataError(
            f"vectors to train on: got {tuple(vectors.shape)}, expected (rows, {WIDTH})"
        )
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    optimizer = torch.optim.LBFGS(
        linear.parameters(), max_iter=MAX_STEPS, line_search_fn="strong_wolfe"
    )

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        value = nn.functional.cross_entropy(linear(vectors), target)
        value = value + L2 * linear.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    # One thread adds in one order, whatever else the machine does.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        optimizer.step(loss)  # type: ignore[no-untyped-call]
    finally:
        torch.set_num_threads(threads)
