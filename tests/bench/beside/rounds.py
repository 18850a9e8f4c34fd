"""Contestants take turns on a workload: round after round, each in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np
from rich.console import Console

from kvspark.config.sealing import KEY_ENV
from tests.bench.beside.contestants import OF_KVSPARK, Contestant
from tests.bench.beside.environments import ROOT, NotInstalledError, python_of
from tests.bench.beside.failure import first_line
from tests.bench.beside.workload import CORES, Workload, read_outputs, slug
from tests.sealing_keys import TEST_KEYS

LONGEST_S = 1_800.0
"""A contestant that takes longer is named as failed."""

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TOKENIZERS_PARALLELISM",
)
"""What a user may have set: nobody inherits it."""


Measure = Callable[[Contestant, Path, Path], dict[str, Any] | str]
"""What a contestant measured on the workload of a folder, or the first line of its error."""


@final
@dataclass(slots=True)
class Standing:
    """What is known of a contestant on a workload."""

    error: str = ""
    measured: list[dict[str, Any]] = field(default_factory=list)
    apart: dict[str, float] = field(default_factory=dict)
    """By night, the largest difference to the first contestant's outputs."""
    differing: dict[str, int] = field(default_factory=dict)
    """By night, how many of the outputs' items have other bits than the first contestant's."""


def in_turns(
    work: Workload,
    contestants: Sequence[Contestant],
    rounds: int,
    folder: Path,
    console: Console,
    *,
    measure: Measure | None = None,
) -> dict[str, Any]:
    """What came of all rounds, as the JSON has it; `folder` holds the workload.

    `measure` runs one contestant; left out it is `run`, which gives each a process of its own.
    """
    standings = {each.name: Standing() for each in contestants if work.kind in each.kinds}
    load, date = os.getloadavg()[0], time.strftime("%Y-%m-%d %H:%M")
    begun = time.perf_counter()
    references: dict[str, np.ndarray] = {}
    for number in range(rounds):
        for each in contestants:
            standing = standings.get(each.name)
            if standing is None or standing.error:
                continue
            _one(measure or run, each, work, folder, standing, references)
            console.print(f"{work.name}, round {number + 1}, {each.title}: {_said(standing)}")
    return {
        "title": work.title,
        "rows": work.rows,
        "nights": [night.name for night in work.nights],
        "new_nights": [night.name for night in work.nights if night.is_new],
        "rounds": rounds,
        "tolerance": work.tolerance,
        "date": date,
        "load_before": round(load, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "took_s": round(time.perf_counter() - begun, 1),
        "contestants": {
            each.name: _told(each, work, standings.get(each.name)) for each in contestants
        },
    }


def _one(
    measure: Measure,
    contestant: Contestant,
    work: Workload,
    folder: Path,
    standing: Standing,
    references: dict[str, np.ndarray],
) -> None:
    """One more measurement of a contestant, or what kept it from being made."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    load = os.getloadavg()[0]
    try:
        measured = measure(contestant, folder, out)
    except (NotInstalledError, subprocess.TimeoutExpired) as error:
        standing.error = str(error)
        return
    if isinstance(measured, str):
        standing.error = measured
        return
    for night in measured["seconds"]:
        outputs = read_outputs(work, out / slug(night))
        reference = references.setdefault(night, outputs)
        if outputs.shape != reference.shape:
            standing.error = f"{night}: {len(outputs)} rows, and not {len(reference)}"
            return
        apart, differing = compared(outputs, reference)
        standing.apart[night] = max(apart, standing.apart.get(night, 0.0))
        standing.differing[night] = max(differing, standing.differing.get(night, 0))
    standing.measured.append({**measured, "load": load})
    shutil.rmtree(out, ignore_errors=True)


def compared(outputs: np.ndarray, reference: np.ndarray) -> tuple[float, int]:
    """The largest difference of two float32 arrays of one shape, and how many items have other bits."""
    apart = float(np.abs(outputs.astype("f8") - reference).max()) if outputs.size else 0.0
    differing = int((outputs.view("u4") != reference.view("u4")).sum())
    # NaN beside a number is as far apart as can be.
    return (apart if apart == apart else float("inf")), differing  # noqa: PLR0124


def run(contestant: Contestant, folder: Path, out: Path) -> dict[str, Any] | str:
    """What the contestant measured in a process of its own, or the first line of its error.

    Raises:
        NotInstalledError: its environment could not be made.
        TimeoutExpired: it took longer than `LONGEST_S`.
    """
    python = python_of(contestant.environment)
    command = [python, "-m", "tests.bench.beside.contestant", contestant.name]
    environment = {name: value for name, value in os.environ.items() if name not in THREADS}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "PYSPARK_PYTHON": python,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "RAY_USAGE_STATS_ENABLED": "0",
        "DO_NOT_TRACK": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        KEY_ENV: os.environ.get(KEY_ENV, TEST_KEYS),
    }
    done = subprocess.run(
        [*command, str(folder), str(out)],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )
    if done.returncode:
        return first_line(done.stderr + "\n" + done.stdout)
    measured: dict[str, Any] = json.loads((out / "measured.json").read_text())
    return measured


def _told(each: Contestant, work: Workload, standing: Standing | None) -> dict[str, Any]:
    """A contestant's part of the JSON."""
    told: dict[str, Any] = {"title": each.title, "remembers": each.remembers}
    if standing is None:
        return {**told, "why_not": each.why_not}
    if standing.error or not standing.measured:
        return {**told, "error": standing.error}
    nights = {}
    for night in standing.measured[0]["seconds"]:
        seconds = [made["seconds"][night] for made in standing.measured]
        median = float(np.median(seconds))
        nights[night] = {
            "seconds": [round(value, 3) for value in seconds],
            "median_s": round(median, 3),
            "spread": round((max(seconds) - min(seconds)) / median, 3),
            "rows_per_s": round(work.rows / median, 1),
            "largest_difference": standing.apart[night],
            "items_with_other_bits": standing.differing[night],
            "agrees": standing.apart[night] <= work.tolerance,
        }
    last = standing.measured[-1]
    few, load = (
        round(float(np.median([made[key] for made in standing.measured])), 3)
        for key in ("few_rows_s", "load")
    )
    more = {key: last[key] for key in ("opening_s", "first_rows_s", "driver_mb", "version")}
    return {**told, "nights": nights, "few_rows_s": few, "load": load, **more}


def _said(standing: Standing) -> str:
    if standing.error:
        return standing.error
    seconds = standing.measured[-1]["seconds"]
    return ", ".join(f"{night} {value:.2f} s" for night, value in seconds.items())


def cores_line() -> str:
    """How many cores everybody used, of how many."""
    return f"{CORES} of {os.cpu_count()} cores"


def bits_of_ours(result: dict[str, Any]) -> bool:
    """True if kvspark gave the same bits with and without a cache, every night and round."""
    ours = [result["contestants"].get(name, {}) for name in OF_KVSPARK]
    return all(
        night["items_with_other_bits"] == 0
        for each in ours
        for night in each.get("nights", {}).values()
    )
