"""Generated models x rows of random lengths: kvspark's row is the own runtime's, or a bad row, or the model is refused.

Torch modules, ONNX files and Keras files that pool, convolve, recur, attend and embed, with masks and without.
The own runtime gets one unpadded row a call. Lengths include 0, 1 and what is no bucket. A row must have the
own runtime's result within `verify`'s bound (3e-5 of its numbers; other shapes of a call have other last bits), and a
row on which the own runtime raises must be a bad row.

A few examples run in the normal suite. The long profile, 2,000 of them over two weights of each model, one of
them with one row a call:

    KVSPARK_LONG=2000 python -m pytest -s tests/infer/test_every_model_beside_its_own_runtime.py
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvspark.errors import ModelError
from kvspark.infer.model import Model
from kvspark.spec import MicroBatch
from tests.model.generated_files import (
    KERAS,
    ONNX,
    keras_runtime,
    onnx_runtime,
    write_keras,
    write_onnx,
)
from tests.model.generated_torch import IDS, TORCH, WIDTH, AttendedMasked, Masked, OfIds
from tests.small_models import seeded

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

LONG = int(os.environ.get("KVSPARK_LONG", "0"))
EXAMPLES, VARIANTS, LONGEST = (LONG, 2, 70) if LONG else (8, 1, 40)

KINDS = [
    *(f"torch {name}" for name in TORCH),
    *(f"onnx {name}" for name in ONNX),
    *(f"keras {name}" for name in KERAS),
]

REFUSED = {
    "torch embedding_bag": "its first dimension is not the batch",  # it flattens the ids of all rows
    # Keras' torch backend loops over the steps in Python.
    "keras lstm": "writes a length of 8 of input 'x' into its graph",
    "keras gru_all": "writes a length of 8 of input 'x' into its graph",
    "keras masked_lstm": "writes a length of 8 of input 'x' into its graph",
    "keras both": "writes a length of 8 of input 'x' into its graph",
}
"""Kinds that are refused when they are made, and the words that say why."""

NO_EMPTY = {"torch attention_masked"}
"""Kinds whose graph takes no row of length 0, though the module does: such a row is a bad row."""

Runtime = Callable[..., Any]
OUTCOMES: Counter[str] = Counter()


@pytest.fixture(autouse=True, scope="module")
def told(free_entries: None) -> Iterator[None]:
    del free_entries  # small models are cut
    yield
    if LONG:
        print("\n", dict(sorted(OUTCOMES.items())))


@cache
def made(kind: str, variant: int) -> tuple[Model, Runtime] | str:
    """A model and its own runtime; the reason of a refusal."""
    source, _, name = kind.partition(" ")
    shape = MicroBatch(rows=1 if variant else 32)
    try:
        if source == "torch":
            return _torch(name, variant, shape)
        folder = Path(tempfile.mkdtemp(prefix="kvspark-test-"))
        if source == "onnx":
            path = write_onnx(folder / f"{name}.onnx", name)
            model = Model.from_onnx(path, variable_length=["x"], micro_batch=shape)
            return model, onnx_runtime(path)
        path = write_keras(folder / f"{name}.keras", name)
        model = Model.from_keras(path, variable_length=["x"], micro_batch=shape)
        return model, keras_runtime(path)
    except ModelError as error:
        return str(error)


def _torch(name: str, variant: int, micro_batch: MicroBatch) -> tuple[Model, Runtime]:
    module = seeded(TORCH[name](), 7 + variant)
    examples = {
        each: torch.from_numpy(
            np.stack([_value(each, 6, np.random.default_rng(s)) for s in (1, 2)])
        )
        for each in _inputs(module)
    }
    model = Model.from_torch(
        module, examples, variable_length=list(examples), micro_batch=micro_batch
    )

    def run(*arrays: Any) -> Any:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # std of one row, say
            found = module(*(torch.from_numpy(array) for array in arrays))
        if isinstance(found, dict):
            return {key: value.numpy() for key, value in found.items()}
        return found.numpy()

    return model, run


def _inputs(module: torch.nn.Module) -> tuple[str, ...]:
    if isinstance(module, OfIds):
        return ("ids",)
    return ("x", "mask") if isinstance(module, Masked | AttendedMasked) else ("x",)


def _value(name: str, length: int, chance: np.random.Generator) -> Any:
    if name == "ids":
        return chance.integers(0, IDS, length)
    if name == "mask":
        return np.ones(length, dtype=np.int64)
    return chance.standard_normal((length, WIDTH)).astype("float32")


def rows_of(model: Model, lengths: Sequence[int], seed: int) -> dict[str, list[Any]]:
    chance = np.random.default_rng(seed)
    return {spec.name: [_value(spec.name, n, chance) for n in lengths] for spec in model.inputs}


LENGTHS = st.lists(st.one_of(st.integers(0, 3), st.integers(0, LONGEST)), min_size=1, max_size=6)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    kind=st.sampled_from(KINDS),
    variant=st.integers(0, VARIANTS - 1),
    lengths=LENGTHS,
    seed=st.integers(0, 2**16),
)
def test_a_row_is_what_its_own_runtime_gives_or_a_bad_row(
    kind: str, variant: int, lengths: list[int], seed: int
) -> None:
    check(kind, variant, lengths, seed)


def check(kind: str, variant: int, lengths: Sequence[int], seed: int) -> None:
    found = made(kind, variant)
    if isinstance(found, str):
        assert kind in REFUSED, found
        assert REFUSED[kind] in found
        OUTCOMES["refused"] += 1
        return
    model, runtime = found
    if kind in NO_EMPTY:
        lengths = [length or 1 for length in lengths]
    verified = model.verify(rows_of(model, lengths, seed), runtime=runtime)
    assert verified.ok, f"{kind}, lengths {lengths}: {verified}"
    own = model.bundle.length_rule.is_exact and variant == 1
    OUTCOMES[f"{verified.verdict}{' in the shapes of the own runtime' if own else ''}"] += 1
    OUTCOMES["rows compared"] += verified.compared
    OUTCOMES["rows bad on both sides"] += verified.bad_on_both


@pytest.mark.parametrize("kind", sorted(NO_EMPTY))
def test_a_row_of_no_tokens_is_bad_where_the_graph_takes_none(kind: str) -> None:
    found = made(kind, 0)
    assert not isinstance(found, str)
    model, runtime = found
    verified = model.verify(rows_of(model, [0, 3], 3), runtime=runtime)
    assert [(one.row, one.error) for one in verified.one_sided] == [(0, "WrongValue")]
