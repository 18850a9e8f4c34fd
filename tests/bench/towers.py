"""A million pairs of 10,000 users and 1,000 items, beside Spark's own way: `make bench ARGS=towers`.

Every contestant scores the same pairs with the same two towers from Parquet to Parquet, on the same two
cores. Each measurement has a process of its own; the contestants take turns, and the best of each
one's measurements counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from tests.bench.beside.workload import CORES
from tests.bench.tower_contestants import CONTESTANTS, TOWERS, WEIGHTS
from tests.bench.two_towers import ITEMS, USERS, catalogue, random_pairs, trained

ROWS = 1_000_000
THEIRS = "predict_batch_udf"
TARGET = 2.0
"""The least that rows/s of each kvspark contestant, cold, is of `THEIRS`."""

AGREEMENT = 1e-5
"""The most that two contestants' scores differ in any pair: float32 in other batch shapes."""


def prepare(folder: Path, rows: int) -> float:
    """Trains the towers and writes the pairs; returns the towers' AUC."""
    torch.set_num_threads(CORES)
    known = catalogue()
    net, auc = trained(known)
    weights = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    save_file(weights, folder / WEIGHTS)
    users, items = random_pairs(rows)
    pairs = known.pairs(users, items)
    pq.write_table(pairs, folder / "pairs.parquet", row_group_size=-(-rows // (2 * CORES)))
    # Other histories and genres: what warms a worker up must not warm its cache.
    other = replace(known, history=known.history[:, ::-1], genres=known.genres + 0.5)
    others = other.pairs(users[:4_096], items[:4_096])
    pq.write_table(others, folder / "others.parquet", row_group_size=1_024)
    return auc


def measure(name: str, folder: Path, out: Path) -> dict[str, Any]:
    """What one contestant prints, from a fresh process."""
    command = [sys.executable, "-m", "tests.bench.tower_contestants", name, str(folder), str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed with exit code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run(rows: int | None, repeats: int, folder: Path, console: Console) -> dict[str, Any]:
    """All measurements, with ratios, and whether the targets are met."""
    rows = rows or ROWS
    auc = prepare(folder, rows)
    console.print(
        f"{rows:,} pairs of {USERS:,} users and {ITEMS:,} items; towers with AUC {auc:.2f}"
    )
    best: dict[str, float] = {}
    computed: dict[str, dict[str, int]] = {}
    scores: dict[str, np.ndarray] = {}
    for repeat in range(repeats):
        for name in CONTESTANTS:
            out = folder / f"{name}-{repeat}"
            measured = measure(name, folder, out)
            scores[name] = np.load(out / "scores.npy")
            for each, seconds in measured["seconds"].items():
                key = f"{name}, {each}"
                best[key] = min(seconds, best.get(key, seconds))
                computed[key] = measured["computed"][each]
                console.print(f"{key}: {seconds:.1f} s, {rows / seconds:,.0f} rows/s")
    apart = max(float(np.abs(s - scores[THEIRS]).max()) for s in scores.values())
    result = judged(rows, best, computed, apart, auc)
    console.print(shown(result))
    return result


def judged(
    rows: int,
    best: Mapping[str, float],
    computed: Mapping[str, Mapping[str, int]],
    apart: float,
    auc: float,
) -> dict[str, Any]:
    """The measurements, ratios, and whether what was promised holds."""
    ratios = {key: best[f"{THEIRS}, cold"] / seconds for key, seconds in best.items()}
    exact = computed["kvspark_distinct_first, cold"]
    # A smaller run has fewer of them.
    once = [exact[tower] for tower in TOWERS] == [min(rows, USERS), min(rows, ITEMS)]
    ours = [ratio for key, ratio in ratios.items() if not key.startswith(THEIRS)]
    return {
        "rows": rows,
        "auc": round(auc, 3),
        "seconds": dict(best),
        "rows_per_s": {key: round(rows / seconds, 1) for key, seconds in best.items()},
        "x_as_fast_as_predict_batch_udf": {key: round(ratio, 2) for key, ratio in ratios.items()},
        "computed": {key: dict(value) for key, value in computed.items()},
        "largest_difference": apart,
        "each_tower_row_once": once,
        "load_at_start": round(os.getloadavg()[0], 2),
        "targets_met": once and apart <= AGREEMENT and min(ours) >= TARGET,
    }


def shown(result: Mapping[str, Any]) -> Table:
    """The result as a table."""
    table = Table(title=f"{result['rows']:,} pairs, {CORES} cores", title_justify="left")
    table.add_column("contestant")
    for heading in ("rows/s", "x predict_batch_udf", "users computed", "items computed"):
        table.add_column(heading, justify="right")
    for key, rows_per_s in result["rows_per_s"].items():
        counts = [result["computed"][key].get(tower, result["rows"]) for tower in TOWERS]
        ratio = result["x_as_fast_as_predict_batch_udf"][key]
        table.add_row(key, f"{rows_per_s:,.0f}", f"{ratio:.2f}", *(f"{c:,}" for c in counts))
    return table
