"""A GPU whose memory does not hold a micro-batch: rows come all the same, and are not cached."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, final

import numpy as np
import pytest
import torch

from kvspark.cache.cache import Cache
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import OUT_OF_MEMORY, Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.infer.resolve.resolve import Resolver
from kvspark.infer.rows.columns import TensorColumn
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.run.backing_off import BackingOff
from kvspark.model.run.computation import Computation
from kvspark.spec import MicroBatch, Rows
from tests.small_models import Mlp, seeded

NAMES = count()


@final
class Small(Computation):
    """A real computation in a memory of a few rows, which overlaps calls as a GPU does."""

    def __init__(self, inner: Computation, most_rows: int) -> None:
        self._inner = inner
        self.most_rows = most_rows
        self.calls: list[int] = []

    @property
    def overlaps(self) -> bool:
        return True

    def run(self, arguments: Sequence[Any]) -> tuple[Rows, ...]:
        self.calls.append(len(arguments[0]))
        if len(arguments[0]) > self.most_rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return self._inner.run(arguments)

    def submit(self, arguments: Sequence[Any]) -> Callable[[], tuple[Rows, ...]]:
        made = self.run(arguments)
        return lambda: made


def mlp() -> Model:
    shape = MicroBatch(rows=64)
    return Model.from_torch(
        seeded(Mlp()), {"x": torch.zeros(3, 8)}, cuts=["trunk"], micro_batch=shape
    )


def rows(number: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((number, 8)).astype("f4")


def cache() -> Cache:
    return Cache.connect(f"memory://full-{next(NAMES)}", namespace="tests")


def with_memory(
    monkeypatch: pytest.MonkeyPatch, most_rows: dict[str, int]
) -> dict[str, tuple[Small, list[None]]]:
    """Every stage runs in a memory of `most_rows`; what ran, and how often memory was given back."""
    opened: dict[str, tuple[Small, list[None]]] = {}
    real = Bundle.computation

    def computation(self: Bundle, stage: Any, *, threads: int, device: str = "cpu") -> Computation:
        small = Small(real(self, stage, threads=threads), most_rows.get(stage.name, 1_000))
        freed: list[None] = []
        opened[stage.name] = (small, freed)
        return BackingOff(small, stage.name, lambda: freed.append(None))

    monkeypatch.setattr(Bundle, "computation", computation)
    return opened


def test_micro_batches_are_halved_until_they_fit_and_stay_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    expected = mlp().predict({"x": rows(200)}, threads=1)
    opened = with_memory(monkeypatch, {"trunk": 20})
    made = mlp().predict({"x": rows(200)}, threads=1)
    small, freed = opened["trunk"]
    assert [n for n in small.calls if n > 20] == [64, 64, 64, 32]  # two in flight, then halves
    assert set(small.calls) == {64, 32, 16}
    assert len(freed) == 2
    np.testing.assert_allclose(made["scores"], expected["scores"], rtol=1e-5, atol=1e-6)
    assert "does not hold 64 rows of a micro-batch; going on with 32" in caplog.text


def test_what_was_computed_in_another_shape_is_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(monkeypatch, {"trunk": 20})
    predictor = Predictor(compiled_plan(mlp().bundle), cache=(store := cache()))
    arrays = mlp_arrays(100)
    predictor.predict(arrays)
    stats = predictor.drain()
    assert stats.degraded == {OUT_OF_MEMORY}
    assert {name: stage.bytes_written for name, stage in stats.stages.items()} == {
        "trunk": 0,
        "output": 0,  # its own shape was right, what it was given was not
    }
    again = Predictor(compiled_plan(mlp().bundle), cache=store)
    again.predict(arrays)
    assert again.drain().stages["trunk"].hits == 0


def test_a_stage_before_the_one_that_is_too_large_is_cached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_memory(monkeypatch, {"output": 20})
    predictor = Predictor(compiled_plan(mlp().bundle), cache=cache())
    predictor.predict(mlp_arrays(100))
    stages = predictor.drain().stages
    assert stages["trunk"].bytes_written > 0
    assert stages["output"].bytes_written == 0


def test_calls_that_fit_overlap_and_keep_their_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = mlp().predict({"x": rows(300)}, threads=1)
    opened = with_memory(monkeypatch, {})
    made = mlp().predict({"x": rows(300)}, threads=1)
    assert made["scores"].tobytes() == expected["scores"].tobytes()
    assert opened["trunk"][0].calls == [64] * 5
    predictor = Predictor(compiled_plan(mlp().bundle), cache=cache())
    predictor.predict(mlp_arrays(100))
    stats = predictor.drain()
    assert stats.degraded == frozenset()
    assert stats.stages["output"].bytes_written > 0


def test_one_row_that_does_not_fit_is_an_error_that_is_no_rows_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with_memory(monkeypatch, {"trunk": 0})
    with pytest.raises(torch.OutOfMemoryError):
        mlp().predict({"x": rows(3)}, threads=1)


def test_a_tower_that_is_not_exact_is_not_recalled(monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(monkeypatch, {"trunk": 20})
    bundle = mlp().bundle
    resolver = Resolver(compiled_plan(bundle), None, threads=1)
    columns = {"x": TensorColumn(rows(64))}
    resolver.resolve(bundle.stages[0], columns, 64)
    assert not resolver.is_exact(bundle.stages[0])
    assert not resolver.is_exact(bundle.stages[1])
    assert not resolver.is_exact()


def mlp_arrays(number: int) -> dict[str, Any]:
    import pyarrow as pa

    return {"x": pa.array(rows(number).tolist(), pa.list_(pa.float32()))}
