"""The law on a GPU: a row has its bits in any company and place, with any pattern of hits.

Where there is no pyspark: `pytest --noconftest tests/gpu`. The same checks run on the CPU, everywhere.
"""

from __future__ import annotations

import pytest
import torch

from tests.gpu.checks import CASES, DTYPES, distance, exact, rows_per_s

TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.01}
"""From eager torch with the same rows of a call, which may use TF32 and shortened sums."""

on_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here"),
]
DEVICES = ["cpu", pytest.param("cuda", marks=on_gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_a_row_has_its_bits_whatever_is_around_it(case: str, dtype: str, device: str) -> None:
    assert exact(CASES[case], dtype, device) == []


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_rows_are_near_those_of_eager_torch(case: str, dtype: str, device: str) -> None:
    assert distance(CASES[case], dtype, device) <= TOLERANCE[dtype]


@pytest.mark.parametrize("device", DEVICES)
def test_speed_can_be_measured(device: str) -> None:
    assert min(rows_per_s(CASES["mlp"], "float32", device)) > 0
