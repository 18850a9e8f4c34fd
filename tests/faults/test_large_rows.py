"""What is too large: a model for its driver's heap, a micro-batch for its device."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kvspark.infer.predict.predictor import OUT_OF_MEMORY
from tests.faults.conftest import Fired
from tests.faults.matrix import covers


def told_by(module: str, *arguments: str) -> dict[str, Any]:
    """What a program of the tests prints, in a process of its own."""
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": str(root), "PYSPARK_PYTHON": sys.executable},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.spark
@pytest.mark.slow
@covers("B19")
def test_a_model_that_the_driver_cannot_broadcast_is_told_with_what_to_do(
    tmp_path: Path, fired: Fired
) -> None:
    told = told_by("tests.faults.large_model", str(tmp_path))
    fired("B19", told["fired"])
    assert told["exit_code"] == 65
    assert "too large to be broadcast" in told["error"]
    assert "model.weights path" in told["error"]
    # The same model had gone by path before.
    assert (told["rows"], told["is_as_before"]) == (200, True)
    # Beside the old output the history has a line of the run that failed.
    assert told["left"] == [".kvspark-out", "model", "night", "out"]


@covers("B23")
def test_a_device_that_is_full_gets_half_of_the_rows_and_nothing_of_them_is_kept(
    fired: Fired,
) -> None:
    told = told_by("tests.faults.small_device")
    fired("B23", told["full"])
    assert told["rows"][:2] == [32, 16]
    assert set(told["rows"][1:]) == {16}
    assert any(
        "does not hold 32 rows of a micro-batch; going on with 16" in line for line in told["said"]
    )
    assert told["degraded"] == [OUT_OF_MEMORY]
    assert set(told["bytes_written"]) == {0}
    for name, whole in told["whole"].items():
        # Other shapes may give other last bits, which is why nothing is kept.
        np.testing.assert_allclose(
            np.array(told["made"][name]), np.array(whole), rtol=1e-5, atol=1e-6
        )
