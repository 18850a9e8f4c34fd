"""How far one call of `Model.predict` walks through the code: `python -m tests.bench.walk`.

Of 64 rows through a sealed Redis, cold and warm: how often the running function is in another file of
kvspark than the one before it, how many files there are, and how many frames of kvspark lie on each
other at the most. The numbers do not depend on the machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import final

import numpy as np
import torch

import kvspark
from kvspark.config.sealing import KEY_ENV
from tests.redis_server import PATIENT_MS, running_redis
from tests.sealing_keys import TEST_KEYS

ROWS = 64
HOME = str(Path(kvspark.__file__).parent)


@final
@dataclass(slots=True)
class Walk:
    """What was seen so far."""

    changes: int = 0
    """Calls whose file is another one than that of the call before."""
    files: set[str] = field(default_factory=set)
    depth: int = 0
    """Frames of kvspark at the most."""
    last: str = ""

    def called(self, frame: FrameType) -> None:
        """Counts a call of a function of kvspark."""
        name = frame.f_code.co_filename
        self.changes += name != self.last
        self.last = name
        self.files.add(name)
        self.depth = max(self.depth, depth_of(frame))


def depth_of(frame: FrameType | None) -> int:
    """Frames of kvspark from `frame` down."""
    depth = 0
    while frame is not None:
        depth += frame.f_code.co_filename.startswith(HOME)
        frame = frame.f_back
    return depth


def walked(work: Callable[[], object]) -> Walk:
    """The walk of `work` in this thread."""
    walk = Walk()

    def see(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(HOME):
            walk.called(frame)

    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(None)
    return walk


@final
class Net(torch.nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Linear(16, 64)
        self.head = torch.nn.Linear(64, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 8)."""
        hidden: torch.Tensor = self.head(torch.relu(self.trunk(x)))
        return hidden


def walks() -> dict[str, Walk]:
    """A cold and a warm call."""
    os.environ.setdefault(KEY_ENV, TEST_KEYS)
    torch.manual_seed(0)
    model = kvspark.Model.from_torch(Net().eval(), {"x": torch.zeros(2, 16)}, name="walk")
    rows = np.random.default_rng(1).standard_normal((ROWS, 16)).astype("f4")
    with running_redis() as server:
        cache = kvspark.Cache.connect(
            server.url, namespace="walk", timeout_ms=PATIENT_MS, sealed=True
        )
        return {
            how: walked(lambda: model.predict({"x": rows}, cache=cache)) for how in ("cold", "warm")
        }


def main() -> None:
    """Prints both."""
    for how, walk in walks().items():
        print(
            f"{how}: {walk.changes} changes between {len(walk.files)} files, {walk.depth} frames deep"
        )


if __name__ == "__main__":
    main()
