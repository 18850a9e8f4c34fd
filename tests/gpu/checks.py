"""What is checked on a GPU, and on a CPU so that the checks themselves are tested."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import final

import numpy as np
import pyarrow as pa
import torch

from kvspark.cache.cache import Cache
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.spec import MicroBatch
from tests.small_models import seeded

DTYPES = ("float32", "bfloat16", "float16")
ROWS, BATCH = 512, 64
NAMES = count()


@final
@dataclass(frozen=True, slots=True)
class Case:
    """A model on rows of `width` floats."""

    make: Callable[[], torch.nn.Module]
    width: int
    cut: str


@final
class Wide(torch.nn.Module):
    """Matrix products of a size at which a GPU has several kernels to choose from."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.GELU())
        self.head = torch.nn.Linear(1024, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x) / 32)


@final
class Picture(torch.nn.Module):
    """Convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.Sequential(
            torch.nn.Unflatten(1, (1, 16, 16)),
            torch.nn.Conv2d(1, 32, 3, padding=1),
            torch.nn.SiLU(),
            torch.nn.Conv2d(32, 32, 3, stride=2),
            torch.nn.Flatten(),
        )
        self.head = torch.nn.Linear(32 * 7 * 7, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x) / 16)


@final
class Attentive(torch.nn.Module):
    """Attention over 8 tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
        self.head = torch.nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.trunk(x.unflatten(1, (8, 32))).mean(dim=1))


CASES = {
    "mlp": Case(Wide, 256, "trunk"),
    "convolutions": Case(Picture, 256, "trunk"),
    "attention": Case(Attentive, 256, "trunk"),
}


def model_of(case: Case, dtype: str) -> Model:
    """The model of `case`, in calls of 64 rows."""
    return Model.from_torch(
        seeded(case.make()),
        {"x": torch.zeros(2, case.width)},
        cuts=[case.cut],
        micro_batch=MicroBatch(rows=BATCH),
        dtype=dtype,
    )


def rows_of(case: Case, number: int = ROWS) -> np.ndarray:
    """float32 (number, width), the same each time."""
    return np.random.default_rng(3).standard_normal((number, case.width)).astype("<f4")


def exact(case: Case, dtype: str, device: str) -> list[str]:
    """What changes the bits of a row; empty where nothing does."""
    model = model_of(case, dtype)
    rows = rows_of(case)

    def predicted(given: np.ndarray, cache: Cache | None = None) -> np.ndarray:
        column = pa.array(given.tolist(), pa.list_(pa.float32()))
        predictor = Predictor(
            compiled_plan(model.bundle, device=device), cache=cache, device=device
        )
        made = predictor.predict({"x": column})["output"].flatten().to_numpy()
        return np.asarray(made).reshape(len(given), -1)

    expected = predicted(rows)
    found = []
    if not _same(predicted(rows), expected):
        found.append("a second run")
    turned = np.roll(rows, 37, axis=0)[::-1]
    if not _same(predicted(turned), np.roll(expected, 37, axis=0)[::-1]):
        found.append("another place")
    if not _same(predicted(rows[5:6]), expected[5:6]):
        found.append("no company")
    cache = Cache.connect(f"memory://gpu-{next(NAMES)}", namespace="gpu")
    some = np.random.default_rng(4).permutation(ROWS)[: ROWS // 3]
    if not _same(predicted(rows[some], cache), expected[some]):
        found.append("an empty cache")
    if not _same(predicted(rows, cache), expected):
        found.append("a third of hits")
    if not _same(predicted(rows, cache), expected):
        found.append("hits alone")
    return found


def distance(case: Case, dtype: str, device: str) -> float:
    """The most that an output differs from eager torch with the same dtype and rows of a call."""
    rows = rows_of(case)
    ours = _ours(case, dtype, device, rows)
    return float(np.abs(ours - _eager(case, dtype, device, rows)).max())


def rows_per_s(case: Case, dtype: str, device: str) -> tuple[float, float]:
    """Rows a second from numpy to numpy, ours and eager torch's; the best of five each."""
    rows = rows_of(case, 64 * BATCH)
    bundle = model_of(case, dtype).bundle
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), case.width)
    predictor = Predictor(compiled_plan(bundle, device=device), device=device)
    module = _module(case, dtype, device)
    ours = _best(lambda: predictor.predict({"x": column}))
    eager = _best(lambda: _run(module, dtype, device, rows))
    return len(rows) / ours, len(rows) / eager


def _ours(case: Case, dtype: str, device: str, rows: np.ndarray) -> np.ndarray:
    column = pa.array(rows.tolist(), pa.list_(pa.float32()))
    predictor = Predictor(compiled_plan(model_of(case, dtype).bundle, device=device), device=device)
    made = predictor.predict({"x": column})["output"].flatten().to_numpy()
    return np.asarray(made).reshape(len(rows), -1)


def _module(case: Case, dtype: str, device: str) -> torch.nn.Module:
    return seeded(case.make()).to(device, getattr(torch, dtype))


def _eager(case: Case, dtype: str, device: str, rows: np.ndarray) -> np.ndarray:
    return _run(_module(case, dtype, device), dtype, device, rows)


def _run(module: torch.nn.Module, dtype: str, device: str, rows: np.ndarray) -> np.ndarray:
    made = []
    with torch.inference_mode():
        for start in range(0, len(rows), BATCH):
            given = torch.from_numpy(rows[start : start + BATCH]).to(device, getattr(torch, dtype))
            made.append(module(given).float().cpu())
    return torch.cat(made).numpy()


def _best(work: Callable[[], object]) -> float:
    work()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.ascontiguousarray(a).tobytes() == np.ascontiguousarray(b).tobytes()
