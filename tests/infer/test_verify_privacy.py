"""What `Model.verify` says holds nothing of a row."""

from __future__ import annotations

import numpy as np

from kvspark.infer.model import Model
from kvspark.spec import TensorSpec
from tests.callables import doubled, strict


def test_nothing_of_a_row_is_told() -> None:
    spec = TensorSpec("x", "float32", (4,))
    model = Model.from_callable(strict, fingerprint="1", inputs=[spec], outputs=[spec])
    given = np.full((1, 4), -123.5, dtype="float32")
    for runtime in (None, doubled):
        assert "123" not in str(model.verify({"x": given}, runtime=runtime))
