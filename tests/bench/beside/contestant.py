"""One contestant on one workload, in a process of its own.

    python -m tests.bench.beside.contestant NAME FOLDER OUT

leaves `OUT/NIGHT/*.parquet` with `id` and `output` for each night, and `OUT/measured.json`: seconds of each
night, of opening and of a night with a few other rows, and the memory of the driver. What everybody
may do before the clock starts: start Python and the JVM, load the model and score a few other rows.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.beside.contestants import BY_NAME, Contestant
from tests.bench.beside.workload import WARM_UP, Workload, read_workload, slug


def measured(contestant: Contestant, work: Workload, folder: Path, out: Path) -> dict[str, Any]:
    """What `measured.json` holds."""
    begun = time.perf_counter()
    module = importlib.import_module(f"tests.bench.beside.{contestant.module}")
    seconds: dict[str, float] = {}
    with getattr(module, contestant.name)(work, folder, out) as score:
        opened = time.perf_counter() - begun
        first = _timed(score, WARM_UP, out / "warm-up-1")
        few = _timed(score, WARM_UP, out / "warm-up-2")
        for night in work.nights:
            if contestant.scores(night):
                seconds[night.name] = _timed(score, night, out / slug(night.name))
        memory = driver_mb()
    return {
        "seconds": seconds,
        "opening_s": opened,
        "first_rows_s": first,
        "few_rows_s": few,
        "driver_mb": memory,
        "version": version(contestant.package),
    }


def driver_mb() -> dict[str, float]:
    """The most memory that this process and its JVM have had, in MB; empty where /proc is not."""
    own = Path("/proc/self/status")
    if not own.exists():
        return {}
    peaks = {"python": _peak_mb(own)}
    for child in Path("/proc").glob("[0-9]*/status"):
        try:
            told = dict(line.split(":", 1) for line in child.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if told["Name"].strip() == "java" and int(told["PPid"]) == os.getpid():
            peaks["java"] = _peak_mb(child)
    return peaks


def _peak_mb(status: Path) -> float:
    for line in status.read_text().splitlines():
        if line.startswith("VmHWM"):
            return round(int(line.split()[1]) / 1024, 1)
    return 0.0


def _timed(score: Any, night: Any, target: Path) -> float:
    begun = time.perf_counter()
    score(night, target)
    return time.perf_counter() - begun


def main() -> None:
    """Measures one contestant."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=BY_NAME)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True)
    work = read_workload(asked.folder)
    result = measured(BY_NAME[asked.name], work, asked.folder.resolve(), asked.out.resolve())
    (asked.out / "measured.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main()
