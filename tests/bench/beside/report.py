"""What `make bench` leaves: the figures as JSON, as a page of Markdown and as pictures."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.bench.beside.asked import answers
from tests.bench.beside.plots import drawn
from tests.bench.beside.rounds import bits_of_ours, cores_line
from tests.bench.beside.table import markdown


def kept(path: Path, workloads: Mapping[str, Any]) -> dict[str, Any]:
    """What is in `path` from runs of other workloads, with these in their place."""
    before = json.loads(path.read_text()) if path.exists() else {}
    known = before.get("workloads", {}) if isinstance(before, dict) else {}
    return {
        "machine": f"{platform.machine()}, {cores_line()}",
        "workloads": {**known, **workloads},
        "parts": before.get("parts", {}) if isinstance(before, dict) else {},
    }


def write_report(path: Path, told: dict[str, Any]) -> list[Path]:
    """Writes `path` (JSON) and beside it the Markdown and the pictures; returns all of them."""
    told["asked"] = answers(told["workloads"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told, indent=2) + "\n")
    page = path.with_suffix(".md")
    page.write_text(markdown(told))
    return [path, page, *drawn(told["workloads"], path.parent)]


def trouble(workloads: Mapping[str, Any]) -> list[str]:
    """What must not be: rows that disagree, and bits of kvspark that a cache changed."""
    found = []
    for name, workload in workloads.items():
        for each in workload["contestants"].values():
            nights = each.get("nights", {})
            wrong = [night for night, made in nights.items() if not made["agrees"]]
            if wrong or not each.get("agrees", True):
                found.append(f"{name}: {each['title']} gave other rows: {', '.join(wrong)}")
        if name != "scale" and not bits_of_ours(workload):
            found.append(f"{name}: kvspark gave other bits with the cache than without")
    return found
