"""TorchScript files as one stage: their bytes in the fingerprint, their bits those of the module itself."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvspark.cache.cache import Cache
from kvspark.errors import ModelError, NotRepeatableError, RowError, UsageError
from kvspark.infer.model import Model
from kvspark.spec import TensorSpec
from tests.real_models import from_silero
from tests.small_models import Mlp, seeded

X = TensorSpec("x", "float32", (8,))
SCORES, LABEL = TensorSpec("scores", "float32", (3,)), TensorSpec("label", "int64")


def rows(count: int = 40) -> Any:
    return np.random.default_rng(3).standard_normal((count, 8)).astype("float32")


def scripted(folder: Path, module: torch.nn.Module, name: str = "m.pt") -> Path:
    jit: Any = torch.jit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jit.trace(module, torch.zeros(2, 8), strict=False, check_trace=False).save(
            str(folder / name)
        )
    return folder / name


def model(path: Path, **options: Any) -> Model:
    return Model.from_torchscript(path, **{"inputs": [X], "outputs": [SCORES, LABEL], **options})


def test_the_bits_are_those_of_the_module_call_after_call(tmp_path: Path) -> None:
    module = seeded(Mlp())
    made = model(scripted(tmp_path, module))
    (stage,) = made.stages
    assert (stage.kind, stage.is_batched, stage.upstream) == ("torchscript", True, ())
    given = rows(32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(given))
    for _ in range(4):  # torch optimises a program after its first calls
        got = made.predict({"x": given}, threads=torch.get_num_threads())
        assert got["scores"].tobytes() == expected["scores"].numpy().tobytes()
        assert got["label"].tobytes() == expected["label"].numpy().tobytes()


def test_hits_and_misses_give_one_set_of_bits(tmp_path: Path) -> None:
    made = model(scripted(tmp_path, seeded(Mlp())))
    cache = Cache.connect("memory://", namespace="tests")
    expected = made.predict({"x": rows()})["scores"].tobytes()
    made.predict({"x": rows()[5:9]}, cache=cache)
    assert made.predict({"x": rows()}, cache=cache)["scores"].tobytes() == expected


def test_the_file_and_what_its_owner_gives_make_the_fingerprint(tmp_path: Path) -> None:
    path = scripted(tmp_path, seeded(Mlp()))
    made = model(path)
    made.save(tmp_path / "saved")
    assert Model.load(tmp_path / "saved").fingerprint == made.fingerprint
    others = [
        model(path, fingerprint="v2"),
        model(scripted(tmp_path, seeded(Mlp(), seed=8), "other.pt")),
        model(path, outputs=[TensorSpec("logits", "float32", (3,)), LABEL]),
    ]
    assert len({m.fingerprint for m in [made, *others]}) == 4


def test_a_program_that_takes_something_else_is_refused(tmp_path: Path) -> None:
    """silero-vad's own file takes the sampling rate as well."""
    path = tmp_path / "silero.jit"
    path.write_bytes(from_silero("src/silero_vad/data/silero_vad.jit"))
    wave = TensorSpec("wave", "float32", (512,))
    speech = [TensorSpec("speech", "float32", (1,))]
    with pytest.raises(ModelError, match="its program fails"):
        Model.from_torchscript(path, inputs=[wave], outputs=speech).predict(
            {"wave": np.ones((2, 512))}
        )


def test_a_row_on_which_the_program_fails_is_a_bad_row(tmp_path: Path) -> None:
    jit: Any = torch.jit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        jit.script(torch.nn.Embedding(10, 3).eval()).save(str(tmp_path / "m.pt"))
    ids, found = TensorSpec("ids", "int64", (2,)), TensorSpec("y", "float32", (2, 3))
    made = Model.from_torchscript(tmp_path / "m.pt", inputs=[ids], outputs=[found])
    given = {"ids": np.array([[1, 2], [3, 10], [9, 0]])}
    with pytest.raises(RowError, match=r"row 1 .*outside the table"):
        made.predict(given)
    got = made.predict(given, on_bad_row="quarantine")
    assert [why is not None for why in got["_kvspark_error"]] == [False, True, False]


class Counting(torch.nn.Module):
    """Adds the number of its calls."""

    calls: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x + self.calls


def test_a_program_with_a_state_is_refused(tmp_path: Path) -> None:
    path = scripted(tmp_path, Counting().eval())
    with pytest.raises(NotRepeatableError, match="in the next call"):
        model(path, outputs=[TensorSpec("y", "float32", (8,))])


def test_what_is_no_program_in_eval_mode_is_refused(tmp_path: Path) -> None:
    (tmp_path / "noise.pt").write_bytes(b"noise")
    with pytest.raises(ModelError, match="is no TorchScript file"):
        model(tmp_path / "noise.pt")
    with pytest.raises(ModelError, match="was saved in training mode"):
        model(scripted(tmp_path, Mlp().train()))
    with pytest.raises(UsageError, match="must be text or bytes"):
        model(scripted(tmp_path, seeded(Mlp())), fingerprint=7)
