"""An index that is outside its table is found, and costs no more than the call that it failed."""

from __future__ import annotations

import pytest
import torch

from kvspark.errors import RowError
from kvspark.infer.model import Model
from kvspark.model.bundle.bundle import Bundle
from tests.small_models import seeded


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    module = torch.nn.Sequential(torch.nn.Embedding(50, 4), torch.nn.Linear(4, 2))
    return Model.from_torch(seeded(module), {"input": torch.zeros(3, dtype=torch.int64)}).bundle


def test_torch_is_asked_for_no_trace_of_its_own(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For one it would import its compiler: seconds of each attempt of a task that fails."""

    traces: list[object] = []
    monkeypatch.setattr("torch.fx.interpreter.trace_structured", lambda *_, **__: traces.append(1))
    with pytest.raises(RowError, match=r"id 50 outside 0\.\.49"):
        Model(bundle).predict({"input": [1, 2, 50]})
    assert not traces
