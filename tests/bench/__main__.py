"""kvspark beside what else there is, all in one run: `make bench`.

    python -m tests.bench [texts] [towers] [entries] [cluster] [--rows N] [--repeats N] [--out FILE]

Without names all parts run, one after the other. Exit code 1 if a target is missed or results disagree.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench import cluster, entries, texts, towers

BUSY = 0.5
"""A load at the start above which ratios are not to be trusted: somebody else is computing."""

PARTS = ("texts", "towers", "entries", "cluster")


def main() -> int:
    """Measures, prints the tables and writes the JSON; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them"
    )
    parser.add_argument("--rows", type=int, help="fewer texts or pairs than there are")
    parser.add_argument("--repeats", type=int, default=2, help="of texts and towers")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    console = Console()
    load = os.getloadavg()[0]
    if load > BUSY:
        console.print(
            f"[yellow]the machine is busy (load {load:.1f}): processes that share their cores with "
            "others lose by different amounts, so the ratios below say little"
        )
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    results = {}
    with tempfile.TemporaryDirectory(prefix="kvspark-bench-") as folder:
        for name in asked.parts or PARTS:
            Path(folder, name).mkdir()
            results[name] = _measured(name, asked, Path(folder, name), console)
            told = {"load_at_start": round(load, 2), **results}
            asked.out.write_text(json.dumps(told, indent=2) + "\n")
    for name, result in results.items():
        console.print(f"{name}: targets {'met' if result['targets_met'] else 'MISSED'}")
    console.print(f"all figures: {asked.out}")
    return 0 if all(result["targets_met"] for result in results.values()) else 1


def _measured(
    name: str, asked: argparse.Namespace, folder: Path, console: Console
) -> dict[str, Any]:
    if name == "texts":
        return texts.run(asked.rows, asked.repeats, folder, console)
    if name == "towers":
        return towers.run(asked.rows, asked.repeats, folder, console)
    return entries.run(console) if name == "entries" else cluster.run(console)


if __name__ == "__main__":
    sys.exit(main())
