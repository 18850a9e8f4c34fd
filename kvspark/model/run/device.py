"""Which GPU is whose, and what it is told so that it gives the same bits every time.

A device is named as torch names it: `cpu`, `cuda:0`. Its class, `cpu` or `cuda`, is part of the
fingerprints of graph stages; everything else by which two GPUs may differ is part of the keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from kvspark.errors import ModelError, UsageError
from kvspark.fingerprint import Canonical

DeviceClass = Literal["cpu", "cuda"]

CPU = "cpu"
CUDA = "cuda"

VISIBLE = "CUDA_VISIBLE_DEVICES"
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_DRIVER = Path("/proc/driver/nvidia/version")
_SWITCHES = (_WORKSPACE, "NVIDIA_TF32_OVERRIDE", "TORCH_BLAS_PREFER_CUBLASLT", "CUDNN_LOGINFO_DBG")
"""Environment variables by which a user may pick other kernels."""


def device_class(device: str) -> DeviceClass:
    """The class of `device`.

    Raises:
        UsageError: it is neither `cpu`, nor `cuda` with or without a number.
    """
    kind, _, number = device.partition(":")
    if kind == CPU and not number:
        return "cpu"
    if kind == CUDA and (number.isdecimal() or ":" not in device):
        return "cuda"
    raise UsageError(f"device {device!r} is unknown; use cpu, cuda or cuda:N")


def visible_index(
    address: str, visible: str | None, uuids: Callable[[], Sequence[str]] = tuple
) -> int:
    """The number that torch gives to the GPU at `address`, which a scheduler gave to this process.

    A number is a place among the GPUs that the process sees: where `visible` (CUDA_VISIBLE_DEVICES)
    is set, whoever set it has taken the others away, and the scheduler counts what is left. A UUID is looked
    for in `visible`, which may shorten it, and else among the `uuids` of the GPUs that torch sees.

    Raises:
        ModelError: no such GPU is visible.
    """
    listed = None if visible is None else _listed(visible)
    if address.isdecimal():
        index = int(address)
        if listed is None or index < len(listed):
            return index
    elif listed is not None and any(not each.isdecimal() for each in listed):
        for index, each in enumerate(listed):
            if _same(address, each):
                return index
    else:
        for index, each in enumerate(uuids()):
            if _same(address, each):
                return index
    raise ModelError(
        f"GPU {address} was given, and is not among those that this process sees "
        f"({VISIBLE}={'unset' if visible is None else visible}); let "
        "spark.executor.resource.gpu.discoveryScript list what an executor can see"
    )


def _listed(visible: str) -> list[str]:
    """The GPUs of CUDA_VISIBLE_DEVICES; CUDA reads it up to the first that is no GPU, -1 say."""
    listed: list[str] = []
    for each in visible.split(","):
        name = each.strip()
        if not name or name.startswith("-"):
            break
        listed.append(name)
    return listed


def _same(address: str, other: str) -> bool:
    """True if two UUIDs of GPUs are one, of which either may be shortened and lack its `GPU-`."""
    a, b = (uuid.lower().removeprefix("gpu-") for uuid in (address, other))
    return bool(a and b) and (a.startswith(b) or b.startswith(a))


def gpu_uuids() -> list[str]:
    """The UUIDs of the GPUs that torch sees, in torch's order."""
    import torch

    count = torch.cuda.device_count()
    return [str(torch.cuda.get_device_properties(i).uuid) for i in range(count)]


def check_gpu(device: str) -> None:
    """Returns if torch can compute on the GPU `device`.

    Raises:
        ModelError: torch has no CUDA, or there is no such GPU.
    """
    import torch

    if not torch.cuda.is_available():
        raise ModelError(
            f"the model is to compute on {device}, and torch {torch.__version__} finds no GPU here; "
            "install a build with CUDA, or choose device cpu"
        )
    index = torch.device(device).index or 0
    if index >= torch.cuda.device_count():
        raise ModelError(
            f"the model is to compute on {device}, and this process sees "
            f"{torch.cuda.device_count()} GPUs"
        )


def gpu_numerics(device: str) -> Canonical:
    """All by which two GPUs may give one stage other bits: chip, driver and libraries.

    The number of multiprocessors is in it because cuBLAS picks its kernels by it.
    """
    import torch

    check_gpu(device)
    cudnn: Any = torch.backends.cudnn  # untyped
    chip = torch.cuda.get_device_properties(torch.device(device))
    return {
        "name": chip.name,
        "capability": [chip.major, chip.minor],
        "multiprocessors": chip.multi_processor_count,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version(),
        "switches": {name: os.environ.get(name) for name in _SWITCHES},
    }


def _driver() -> str | None:
    try:
        return _DRIVER.read_text().splitlines()[0]
    except (OSError, IndexError):
        return None


def settle_gpu() -> None:
    """Asks cuBLAS for results that do not depend on what else runs; before its first call.

    Source: torch.use_deterministic_algorithms, CUBLAS_WORKSPACE_CONFIG.
    """
    os.environ.setdefault(_WORKSPACE, ":4096:8")


@contextmanager
def strict_arithmetic() -> Iterator[None]:
    """Full float32 products (no TF32), no shortened sums, deterministic operators; then as before.

    An operator that has no deterministic form on a GPU raises.
    """
    import torch

    before = {
        (id(owner), name): (owner, name, getattr(owner, name)) for owner, name, _ in _strict(torch)
    }
    was_deterministic = torch.are_deterministic_algorithms_enabled()
    warns_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        for owner, name, value in _strict(torch):
            setattr(owner, name, value)
        torch.use_deterministic_algorithms(mode=True)
        yield
    finally:
        torch.use_deterministic_algorithms(was_deterministic, warn_only=warns_only)
        for owner, name, value in before.values():
            setattr(owner, name, value)


def _strict(torch_: Any) -> list[tuple[Any, str, object]]:
    matmul, cudnn = torch_.backends.cuda.matmul, torch_.backends.cudnn
    return [
        (matmul, "fp32_precision", "ieee"),
        (cudnn.conv, "fp32_precision", "ieee"),
        (cudnn.rnn, "fp32_precision", "ieee"),
        (matmul, "allow_fp16_reduced_precision_reduction", False),
        (matmul, "allow_bf16_reduced_precision_reduction", False),
        (cudnn, "benchmark", False),
        (cudnn, "deterministic", True),
    ]


def has_gpu() -> bool:
    """True if torch finds a GPU here."""
    import torch

    return bool(torch.cuda.is_available())
