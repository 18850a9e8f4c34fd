"""From ten thousand rows to three million: what a row costs, and what the driver's memory does."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench.beside.contestants import BY_NAME, CACHED, CACHED_JOB, JOB, OURS, SPARKS
from tests.bench.beside.prepare import COLD, prepared
from tests.bench.beside.rounds import in_turns

SIZES = (10_000, 100_000, 1_000_000, 3_000_000)
NAMES = (OURS, CACHED, JOB, CACHED_JOB, SPARKS)

FLAT_FROM = 100_000
"""Fewer rows are over before the clock is worth reading."""


def measured_sizes(
    sizes: Sequence[int], rounds: int, folder: Path, console: Console
) -> dict[str, Any]:
    """The tabular workload at each size, as the JSON has it."""
    load = os.getloadavg()[0]
    made = {}
    for size in sizes:
        (folder / str(size)).mkdir()
        work = prepared("tabular", size, folder / str(size))
        chosen = [BY_NAME[name] for name in NAMES]
        made[size] = in_turns(work, chosen, rounds, folder / str(size), console)
    contestants = {name: _told(name, made) for name in NAMES}
    return {
        "title": "MLP 16-64-64-2, by rows",
        "sizes": list(sizes),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "load_before": round(load, 2),
        "load_after": round(os.getloadavg()[0], 2),
        "contestants": contestants,
        "flat": {name: _flat(told) for name, told in contestants.items()},
    }


def _told(name: str, made: dict[int, dict[str, Any]]) -> dict[str, Any]:
    each = {size: result["contestants"][name] for size, result in made.items()}
    title = BY_NAME[name].title
    for told in each.values():
        if "error" in told:
            return {"title": title, "error": told["error"]}
    nights = {size: told["nights"][COLD] for size, told in each.items()}
    after_start = {
        size: max(nights[size]["median_s"] - told["few_rows_s"], 0.0) for size, told in each.items()
    }
    last = each[max(each)]
    return {
        "title": title,
        "agrees": all(night["agrees"] for night in nights.values()),
        "seconds": {str(size): night["median_s"] for size, night in nights.items()},
        "us_a_row": {str(size): round(s / size * 1e6, 3) for size, s in after_start.items()},
        "driver_mb": {
            str(size): " + ".join(f"{mb:.0f}" for mb in told["driver_mb"].values())
            for size, told in each.items()
        },
        "opening_s": last["opening_s"],
        "first_rows_s": last["first_rows_s"],
    }


def _flat(told: dict[str, Any]) -> float | None:
    costs = [us for size, us in told.get("us_a_row", {}).items() if int(size) >= FLAT_FROM]
    return round(min(costs) / max(costs), 3) if len(costs) > 1 and min(costs) > 0 else None
