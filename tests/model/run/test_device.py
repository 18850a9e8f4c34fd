"""Which GPU is whose, what a GPU is told, and what device and dtype change: all that needs no GPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kvspark.errors import ModelError, UsageError
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.model.run.device import device_class, strict_arithmetic, visible_index
from kvspark.model.run.numerics import numerics_digest
from tests.small_models import Mlp, seeded

INPUTS = {"x": torch.zeros(3, 8)}
A, B = "GPU-6f2c8f0e-1111-2222-3333-444455556666", "GPU-0a1b2c3d-aaaa-bbbb-cccc-ddddeeeeffff"


def mlp(**changes: object) -> Model:
    return Model.from_torch(seeded(Mlp()), INPUTS, cuts=["trunk"], **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("address", "visible", "uuids", "index"),
    [
        ("0", None, (), 0),
        ("3", None, (), 3),
        ("0", "2,3", (), 0),
        ("1", "2,3", (), 1),
        ("1", f"{A},{B}", (), 1),
        (B, f"{A},{B}", (), 1),
        (B, f"{A[:12]},{B[:12]}", (), 1),
        (B.lower(), f"{A},{B}", (), 1),
        (B, None, (A, B), 1),
        (B, "1,0", (B, A), 0),
        (B, None, (A.removeprefix("GPU-"), B.removeprefix("GPU-")), 1),
        ("MIG-5", "MIG-4, MIG-5", (), 1),
        ("0", "1,-1,2", (), 0),
    ],
)
def test_a_gpu_has_its_number_among_those_that_are_visible(
    address: str, visible: str | None, uuids: tuple[str, ...], index: int
) -> None:
    assert visible_index(address, visible, lambda: uuids) == index


@pytest.mark.parametrize(
    ("address", "visible", "uuids"),
    [
        ("2", "2,3", ()),
        ("1", "1,-1,2", ()),
        ("0", "", ()),
        (B, A, ()),
        (B, "0,1", (A,)),
        (B, None, ()),
    ],
)
def test_a_gpu_that_is_not_visible_is_refused(
    address: str, visible: str | None, uuids: tuple[str, ...]
) -> None:
    with pytest.raises(ModelError, match="CUDA_VISIBLE_DEVICES="):
        visible_index(address, visible, lambda: uuids)


@pytest.mark.parametrize(
    ("device", "kind"), [("cpu", "cpu"), ("cuda", "cuda"), ("cuda:11", "cuda")]
)
def test_a_device_has_a_class(device: str, kind: str) -> None:
    assert device_class(device) == kind


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "", "mps"])
def test_another_device_is_refused(device: str) -> None:
    with pytest.raises(UsageError, match="use cpu, cuda or cuda:N"):
        device_class(device)


def test_strict_arithmetic_ends_as_it_began() -> None:
    def settings() -> list[object]:
        matmul: Any = torch.backends.cuda.matmul
        cudnn: Any = torch.backends.cudnn  # its parts are untyped
        return [
            matmul.fp32_precision,
            cudnn.conv.fp32_precision,
            matmul.allow_bf16_reduced_precision_reduction,
            cudnn.deterministic,
            torch.are_deterministic_algorithms_enabled(),
        ]

    before = settings()
    with strict_arithmetic():
        assert settings() == ["ieee", "ieee", False, True, True]
    assert settings() == before
    with pytest.raises(ZeroDivisionError), strict_arithmetic():
        1 / 0  # noqa: B018 - what a model raises
    assert settings() == before


def test_the_device_is_part_of_the_fingerprints_of_what_runs_there() -> None:
    model = mlp()
    on_gpu = model.with_device("cuda")
    assert [s.fingerprint for s in model.with_device("cpu").stages] == [
        s.fingerprint for s in model.stages
    ]
    for here, there in zip(model.stages, on_gpu.stages, strict=True):
        assert here.fingerprint != there.fingerprint
    assert on_gpu.with_device("cpu").fingerprint == model.fingerprint


def test_a_model_keeps_its_device_where_it_is_saved(tmp_path) -> None:
    model = mlp().with_device("cuda")
    model.save(tmp_path / "model")
    assert Model.load(tmp_path / "model").fingerprint == model.fingerprint


def test_a_predictor_takes_the_class_of_its_device() -> None:
    model = mlp()
    there = Predictor(compiled_plan(model.bundle, device="cuda:1"), device="cuda:1").bundle
    assert there.fingerprint == model.with_device("cuda").fingerprint
    assert (
        Predictor(compiled_plan(there, device="cpu"), device="cpu").bundle.fingerprint
        == model.fingerprint
    )
    with pytest.raises(UsageError, match="compiled for cpu, got device 'cuda:0'"):
        Predictor(compiled_plan(model.bundle), device="cuda:0")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_told_before_anything_is_computed() -> None:
    with pytest.raises(ModelError, match="finds no GPU here"):
        mlp().with_device("cuda").predict({"x": np.zeros((2, 8), "f4")}, threads=1)
    with pytest.raises(ModelError, match="finds no GPU here"):
        numerics_digest(threads=1, device="cuda:0")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_dtype_gives_other_fingerprints_and_smaller_entries(dtype: str) -> None:
    model, half = mlp(), mlp(dtype=dtype)
    assert half.inputs == model.inputs
    assert half.outputs == model.outputs  # float32, as columns are
    assert (half.stages[0].bytes_per_row, model.stages[0].bytes_per_row) == (32, 64)
    assert {s.fingerprint for s in half.stages}.isdisjoint({s.fingerprint for s in model.stages})
    assert mlp(dtype=dtype).fingerprint == half.fingerprint


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_dtype_computes_what_the_cast_module_computes(dtype: str) -> None:
    rows = np.random.default_rng(5).standard_normal((32, 8)).astype("f4")
    got = mlp(dtype=dtype).predict({"x": rows}, threads=1)["scores"]
    module = seeded(Mlp()).to(getattr(torch, dtype))
    with torch.inference_mode():
        expected = module(torch.from_numpy(rows).to(getattr(torch, dtype)))["scores"].float()
    assert got.tobytes() == expected.numpy().tobytes()
    plain = mlp().predict({"x": rows}, threads=1)["scores"]
    assert 0 < np.abs(got - plain).max() < 0.05


def test_a_module_is_not_changed_by_the_dtype_it_is_asked_for() -> None:
    module = seeded(Mlp())
    Model.from_torch(module, INPUTS, dtype="bfloat16")
    assert {p.dtype for p in module.parameters()} == {torch.float32}


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(
        UsageError, match="'int8' is unknown; use one of float32, bfloat16, float16"
    ):
        mlp(dtype="int8")
