"""What was foretold and what came true, in words and as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

APART = 0.25
"""The most that what is foretold of a run is apart from what it took."""

Night = Mapping[str, Any]


def ratio(night: Night, what: str = "whole_s") -> float | None:
    """What was foretold over what it took; None of a night of which nothing was."""
    foretold_s, took_s = night[what]
    return None if foretold_s is None else float(foretold_s / took_s)


def is_near(night: Night) -> bool:
    """False if it was foretold, and wrong."""
    found = ratio(night)
    return found is None or abs(found - 1) <= APART


def line(number: int, night: Night) -> str:
    """One night in words."""
    found, (foretold_s, took_s) = ratio(night), night["whole_s"]
    told = "not foretold" if found is None else f"foretold {foretold_s:.2f} s, ratio {found:.2f}"
    stages = " of ".join(f"{s:.2f} s" for s in reversed(night["stages_s"]))
    cached = ", ".join(night["cached"]) or "nothing"
    return f"night {number}: took {took_s:.2f} s, {told}; {stages} foretold in stages and store; cached: {cached}"


def markdown(told: Mapping[str, Any]) -> list[str]:
    """The part of the page."""
    heading = (
        "workload",
        "night",
        "foretold, s",
        "took, s",
        "ratio",
        "left when planned: foretold, took",
        "stages and store: foretold, took",
        "cached",
    )
    lines = [
        "## foretold: what a job says that it will take",
        "",
        f"Load {told['load_before']} before; {told['took_s']:.0f} s. A ratio of {1 - APART} to {1 + APART} is asked.",
        "",
        f"| {' | '.join(heading)} |",
        f"|{'---|' * len(heading)}",
    ]
    for name, each in told["workloads"].items():
        lines += [
            f"| {name}, {each['rows']:,} rows | {number} | {' | '.join(_cells(night))} |"
            for number, night in enumerate(each["nights"], 1)
        ]
    return [*lines, ""]


def _cells(night: Night) -> list[str]:
    found, (foretold_s, took_s) = ratio(night), night["whole_s"]
    whole = ["", f"{took_s:.2f}", ""]
    if found is not None:
        mark = "" if is_near(night) else " **no**"
        whole = [f"{foretold_s:.2f}", f"{took_s:.2f}", f"{found:.2f}{mark}"]
    pairs = [
        ", ".join("-" if s is None else f"{s:.2f}" for s in night[what])
        for what in ("left_s", "stages_s")
    ]
    return [*whole, *pairs, ", ".join(night["cached"]) or "nothing"]
