"""Fingerprints on two machines' worth of processes: nothing around a process is part of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kvspark.infer.model import Model
from kvspark.model.features.text import TextFeatures
from tests.model.features.test_text import tokenizer
from tests.small_models import Encoder, Mlp, seeded

ROOT = Path(__file__).parents[2]

SURROUNDINGS = {
    "hash-seed-0": {"PYTHONHASHSEED": "0"},
    "hash-seed-1-and-one-thread": {"PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"},
    "another-home-locale-and-zone": {
        "PYTHONHASHSEED": "random",
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "TZ": "Pacific/Kiritimati",
        "OMP_NUM_THREADS": "3",
        "PYTHONOPTIMIZE": "1",
    },
}


def fingerprints() -> list[str]:
    """Of all stages of a model of numbers and of one of text."""
    numbers = Model.from_torch(seeded(Mlp()), {"x": torch.zeros(3, 8)}, cuts=["trunk"])
    features = TextFeatures(tokenizer().to_str(), max_length=8)
    text = Model.from_torch(seeded(Encoder()), features=features)
    return [stage.fingerprint.hex() for model in (numbers, text) for stage in model.stages]


@pytest.fixture(scope="module")
def own() -> list[str]:
    """Those of this process."""
    return fingerprints()


@pytest.mark.slow
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_fingerprints_are_those_of_any_other_process(
    own: list[str], tmp_path: Path, name: str
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.model.test_processes"],
        env={**environment, **SURROUNDINGS[name]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == own


if __name__ == "__main__":
    print(json.dumps(fingerprints()))
