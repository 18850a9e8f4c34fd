"""Recurrent layers of Keras that loop over time: masked, backwards, with cells of their own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvspark.errors import ExportError
from kvspark.infer.model import Model
from kvspark.model.keras.recurrent import unrolled_loops
from kvspark.model.keras.source import load_keras

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROWS = 32
"""One micro-batch, so that Keras is asked in the same shape."""


@pytest.fixture(scope="module")
def keras() -> Any:
    digits = Path(__file__).parents[2] / "tensorflow" / "digits.keras"
    load_keras(digits, variable_length=())
    return sys.modules["keras"]


LAYERS: dict[str, Callable[[Any], Any]] = {
    "lstm": lambda layers: layers.LSTM(5),
    "gru-both-ways": lambda layers: layers.Bidirectional(layers.GRU(5)),
    "gru-before": lambda layers: layers.GRU(4, reset_after=False),
    "simple-backwards": lambda layers: layers.SimpleRNN(4, go_backwards=True),
    "cells": lambda layers: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)]),
}


def ids() -> Any:
    """Rows of six ids: some end in padding, one is nothing else."""
    made = np.random.default_rng(3).integers(1, 20, (ROWS, 6)).astype("int32")
    made[::3, 4:] = 0
    made[5] = 0
    return made


@pytest.mark.parametrize("case", LAYERS)
def test_a_masked_loop_is_exported_for_any_number_of_rows(
    case: str, keras: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    start = [keras.Input((6,), dtype="int32", name="ids"), layers.Embedding(20, 6, mask_zero=True)]
    network = keras.Sequential([*start, LAYERS[case](layers), layers.Dense(2)])
    network.save(tmp_path / "m.keras")
    model = Model.from_keras(tmp_path / "m.keras")
    made = model.predict({"ids": ids()})[model.outputs[0].name]
    asked = network.predict(ids(), verbose=0, batch_size=ROWS)
    np.testing.assert_allclose(made, asked, rtol=0, atol=1e-7)
    alone = model.predict({"ids": ids()[7:8]})[model.outputs[0].name]
    assert alone.tobytes() == made[7:8].tobytes()


def test_keras_has_its_own_loop_back_afterwards() -> None:
    backend = sys.modules["keras.src.backend"]
    loop = backend.rnn
    with unrolled_loops():
        assert backend.rnn is not loop
    assert backend.rnn is loop


def test_a_loop_over_a_varying_length_is_refused_with_what_is_true(
    keras: Any, tmp_path: Path
) -> None:
    layers = keras.layers
    start = [keras.Input((None,), dtype="int32", name="ids"), layers.Embedding(20, 6)]
    keras.Sequential([*start, layers.LSTM(5)]).save(tmp_path / "m.keras")
    with pytest.raises(
        ExportError, match=r"takes any size, but torch\.export writes a length of 8"
    ):
        Model.from_keras(tmp_path / "m.keras", variable_length=["ids"])
