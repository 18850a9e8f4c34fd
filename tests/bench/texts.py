"""The texts of the demo's first night, embedded beside what else there is: `make bench ARGS=texts`.

Every contestant uses the same encoder and batches of 32, on the same two cores. Each measurement has a
process of its own; the contestants take turns, and the best of each one's measurements counts.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from kvspark.demo.nights.night import shipped_nights
from tests.bench.contestants import BATCH_SIZE, CONTESTANTS, CORES

OURS = "kvspark_without_cache"
TARGETS = {"predict_batch_udf": 1.8, "sentence_transformers": 0.95}
"""The least that rows/s of `OURS` is, as a multiple of another contestant's."""

AGREEMENT = 1e-5
"""The most that two contestants' vectors differ in any item; float32 in other batch shapes: 2e-7."""


def measure(name: str, rows: int | None, folder: Path) -> dict[str, Any]:
    """What one contestant prints, from a fresh process."""
    more = ["--rows", str(rows)] if rows else []
    night = shipped_nights()[0].path
    command = [
        sys.executable,
        "-m",
        "tests.bench.contestants",
        name,
        str(night),
        str(folder),
        *more,
    ]
    # What a contestant does with threads is its own affair; what it inherits is the same for all.
    quiet = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", **quiet}
    done = subprocess.run(command, env=offline, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed with exit code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run(rows: int | None, repeats: int, folder: Path, console: Console) -> dict[str, Any]:
    """All measurements, with ratios, and whether the targets are met."""
    load = os.getloadavg()[0]
    seconds: dict[str, dict[str, list[float]]] = {name: {} for name in CONTESTANTS}
    vectors: dict[str, np.ndarray] = {}
    for repeat in range(repeats):
        for name in CONTESTANTS:
            where = folder / f"{name}-{repeat}"
            measured = measure(name, rows, where)
            rows = measured["rows"]
            for each, value in measured["seconds"].items():
                seconds[name].setdefault(each, []).append(value)
                console.print(f"{name}, {each}: {value:.1f} s, {rows / value:.0f} rows/s")
            vectors[name] = np.load(where / "vectors.npy")
    apart = {name: float(np.abs(v - vectors[OURS]).max()) for name, v in vectors.items()}
    measured = {"rows": rows, "seconds": seconds, "largest_difference": apart}
    result = judged(measured, load=load)
    console.print(shown(result))
    return result


def judged(measured: Mapping[str, Any], *, load: float) -> dict[str, Any]:
    """The measurements with rows/s, ratios, and whether the targets are met."""
    rows = measured["rows"]
    best = {
        f"{name}_{each}": min(values)
        for name, passes in measured["seconds"].items()
        for each, values in passes.items()
    }
    cold = {name: best[f"{name}_cold"] for name in CONTESTANTS}
    ratios = {name: cold[name] / cold[OURS] for name in CONTESTANTS}
    is_met = all(ratios[name] >= least for name, least in TARGETS.items())
    agrees = max(measured["largest_difference"].values()) <= AGREEMENT
    return {
        **measured,
        "machine": f"{platform.machine()}, {CORES} cores used, batch size {BATCH_SIZE}",
        "rows_per_s": {name: round(rows / value, 1) for name, value in best.items()},
        "ours_is_x_as_fast_as": {name: round(value, 3) for name, value in ratios.items()},
        "warm_x_cold": round(best["kvspark_with_redis_cold"] / best["kvspark_with_redis_warm"], 2),
        "load_at_start": round(load, 2),
        "targets": TARGETS,
        "targets_met": is_met and agrees,
    }


def shown(result: Mapping[str, Any]) -> Table:
    """The result as a table."""
    table = Table(title=f"{result['rows']:,} rows, {result['machine']}", title_justify="left")
    table.add_column("contestant")
    for heading in ("rows/s", "kvspark without cache is x as fast", "target"):
        table.add_column(heading, justify="right")
    for name, rows_per_s in result["rows_per_s"].items():
        contestant = name.rsplit("_", 1)[0]
        ratio = result["rows_per_s"][f"{OURS}_cold"] / rows_per_s
        least = TARGETS.get(contestant)
        table.add_row(
            name.replace("_cold", ", cold").replace("_warm", ", warm"),
            f"{rows_per_s:,.0f}",
            f"{ratio:.2f}",
            "" if least is None else f">= {least}",
        )
    return table
