"""kvspark beside what else there is: `make bench`.

    python -m tests.bench [WORKLOAD or PART ...] [--quick] [--rows N] [--rounds N] [--only NAME,...] [--out FILE]

Without names all of them run, one after the other. A workload compares contestants of `beside/`;
a part has its own contestants and targets. Exit code 1 if a target is missed or results disagree;
with `--quick` only if results disagree.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markdown import Markdown

from tests.bench import cluster, entries, plans, towers, writers
from tests.bench.beside.asked import answers
from tests.bench.beside.contestants import BY_NAME, CONTESTANTS, Contestant
from tests.bench.beside.prepare import DEFAULT_ROWS, prepared
from tests.bench.beside.report import kept, trouble, write_report
from tests.bench.beside.rounds import in_turns
from tests.bench.beside.scale import SIZES, measured_sizes
from tests.bench.beside.table import asked_lines
from tests.bench.foretold import foretold

BUSY = 0.5
"""A load at the start above which ratios are not to be trusted: somebody else is computing."""

PARTS = ("towers", "entries", "cluster", "plans", "writers", "foretold")
SCALE = "scale"
WORKLOADS = ("texts", "pairs-dot", "pairs-mlp", "tabular", "trees", "pictures", SCALE)
"""Those of a whole run; further heads of the pairs run by name."""
NAMED_ONLY = tuple(name for name in DEFAULT_ROWS if name not in WORKLOADS)

QUICK_ROWS = {"tabular": 20_000, "texts": 96}
"""Small enough for five minutes with the contestants that need no environment of their own."""


def main() -> int:
    """Measures, prints the tables and writes the files; returns the exit code."""
    asked = _asked()
    console = Console()
    load = os.getloadavg()[0]
    if load > BUSY:
        console.print(
            f"[yellow]the machine is busy (load {load:.1f}): processes that share their cores with "
            "others lose by different amounts, so the ratios below say little"
        )
    told = kept(asked.out, {})
    measured, missed = {}, []
    for name in asked.names:
        with tempfile.TemporaryDirectory(prefix="kvspark-bench-") as folder:
            if name in PARTS:
                told["parts"][name] = _part(name, asked, Path(folder), console)
                missed += [] if told["parts"][name]["targets_met"] else [name]
            else:
                measured[name] = _workload(name, asked, Path(folder), console)
                told = {**kept(asked.out, measured), "parts": told["parts"]}
        # After each: a run that is broken off leaves what it has measured.
        paths = write_report(asked.out, told)
    console.print(Markdown("\n".join(asked_lines(measured))))
    wrong = trouble(measured)
    for line in [*wrong, *(f"{name}: targets MISSED" for name in missed)]:
        console.print(f"[red]{line}")
    console.print(f"written: {', '.join(map(str, paths))}")
    judged = [each for each in answers(measured) if each["measured"] is not None]
    short = missed or not all(each["met"] for each in judged)
    return 1 if wrong or (short and not asked.quick) else 0


def chosen(only: Sequence[str], *, quick: bool) -> list[Contestant]:
    """The contestants named, or all; with `quick` those that need no environment of their own."""
    known = [BY_NAME[name] for name in only] or list(CONTESTANTS)
    return [each for each in known if each.environment is None or not quick]


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    every = (*WORKLOADS, *NAMED_ONLY, *PARTS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(every)}")
    parser.add_argument("--quick", action="store_true", help="small tables, one round")
    parser.add_argument(
        "--rows", type=int, help="of each table, instead of what suits the workload"
    )
    parser.add_argument("--rounds", "--repeats", type=int, default=0, help="3; of towers 2")
    parser.add_argument("--only", default="", help="contestants by name, with commas between")
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    asked = parser.parse_args()
    asked.only = [name for name in asked.only.split(",") if name]
    if unknown := (set(asked.names) - set(every)) | (set(asked.only) - set(BY_NAME)):
        parser.error(
            f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(every)}, and the contestants "
            f"{', '.join(BY_NAME)}"
        )
    asked.names = asked.names or ([*QUICK_ROWS] if asked.quick else [*WORKLOADS, *PARTS])
    return asked


def _workload(
    name: str, asked: argparse.Namespace, folder: Path, console: Console
) -> dict[str, Any]:
    rounds = asked.rounds or (1 if asked.quick else 3)
    if name == SCALE:
        sizes = [size for size in SIZES if not asked.rows or size <= asked.rows]
        return measured_sizes(sizes, asked.rounds or 1, folder, console)
    rows = asked.rows or (QUICK_ROWS.get(name) if asked.quick else None)
    work = prepared(name, rows, folder)
    contestants = chosen(asked.only, quick=asked.quick)
    return in_turns(work, contestants, rounds, folder, console)


def _part(name: str, asked: argparse.Namespace, folder: Path, console: Console) -> dict[str, Any]:
    if name == "towers":
        return towers.run(asked.rows, asked.rounds or 2, folder, console)
    if name == "writers":
        return writers.run(asked.rows, asked.rounds or 3, folder, console)
    if name == "foretold":
        return foretold.run(console, quick=asked.quick)
    parts = {"entries": entries.run, "cluster": cluster.run, "plans": plans.run}
    return parts[name](console)


if __name__ == "__main__":
    sys.exit(main())
