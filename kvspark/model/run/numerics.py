"""What else decides a worker's bits: the instruction set, the library switches and the threads.

A stage's fingerprint is made on the driver and says nothing of the machine that computes. Workers
of a mixed fleet must not share entries that their arithmetic makes different, so every key holds
this value as well.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
from functools import lru_cache
from pathlib import Path

from kvspark.fingerprint import Canonical, digest
from kvspark.model.run.device import CPU, gpu_numerics
from kvspark.model.stage.stage import Stage

_LOG = logging.getLogger(__name__)

_SWITCHES = (
    "ATEN_CPU_CAPABILITY",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "OPENBLAS_CORETYPE",
)
"""Environment variables by which a user may pick other kernels."""

_INSTRUCTION_SETS = frozenset(
    "fma avx avx2 avx512f avx512bw avx512dq avx512vl avx512_vnni avx512_bf16 avx512_fp16 amx_bf16 "
    "amx_tile asimd asimddp bf16 i8mm sve sve2".split()
)
"""The flags of /proc/cpuinfo by which MKL, oneDNN and ATen choose kernels."""


def numerics_digest(*, threads: int, device: str = CPU) -> bytes:
    """Digest of everything on this machine by which equal stages may give other bits on `device`.

    Two workers with equal digests and equal fingerprints compute equal bits; the number of threads
    is in it because a parallel reduction adds in another order. For a GPU it asks torch, which is
    imported for that.
    """
    if device != CPU:
        return digest("kvspark.gpu", gpu_numerics(device))
    value: Canonical = {
        "machine": platform.machine(),
        "cpu": _cpu(),
        "switches": {name: os.environ.get(name) for name in _SWITCHES},
        "threads": threads,
        "settled": is_settled(),
    }
    return digest("kvspark.numeric", value)


def place_of(stage: Stage, threads: int, device: str) -> bytes:
    """What a key of `stage` says of the machine: its numerics, or nothing where bits cannot differ."""
    if not stage.has_arithmetic:
        return b""
    return numerics_digest(threads=threads, device=device if stage.kind == "graph" else CPU)


@lru_cache(maxsize=1)
def is_settled() -> bool:
    """True if a row gets the same bits wherever it stands in a micro-batch.

    `import kvspark` asks MKL for that, and MKL listens until its first call. A process that has
    computed with torch before may be too late: its entries have keys of their own.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return True
    with torch.inference_mode():
        # A row of 5 floats has another alignment at each place: the case that gave it away.
        row = torch.linspace(-1.0, 1.0, 5).expand(8, 5).contiguous()
        made = torch.nn.functional.linear(row, torch.linspace(-3.0, 2.0, 40).reshape(8, 5))
        is_same = bool((made == made[0]).all())
    if not is_same:
        _LOG.warning(
            "torch computed in this process before kvspark was imported: rows may differ in the last "
            "bit; import kvspark first, or set MKL_CBWR=AUTO before Python starts"
        )
    return is_same


@lru_cache(maxsize=1)
def _cpu() -> Canonical:
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0].splitlines()
    except OSError:  # not Linux: the processor's name has to do
        return platform.processor()
    fields = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)
    }
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    vendor = fields.get("vendor_id") or fields.get("CPU implementer") or ""
    return [vendor, sorted(flags & _INSTRUCTION_SETS)]
