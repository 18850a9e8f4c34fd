"""What was measured as pictures: seconds of each night by contestant, and what a row costs by rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvspark.wording import count_of

Result = Mapping[str, Any]

OUR_COLOUR, THEIR_COLOUR, BEHIND = "#2a6f97", "#b8bec4", "#d9480f"
BAR_INCHES = 0.27


def drawn(workloads: Mapping[str, Result], folder: Path) -> list[Path]:
    """A PNG and an SVG for each workload, in `folder`."""
    import matplotlib as mpl

    mpl.use("agg")
    # The same figures give the same file.
    mpl.rcParams.update({"svg.hashsalt": "kvspark", "font.size": 9, "svg.fonttype": "none"})
    paths = []
    for name, workload in workloads.items():
        figure = _of_sizes(workload) if name == "scale" else _of_nights(workload)
        for kind, more in (("png", {"dpi": 110}), ("svg", {"metadata": {"Date": None}})):
            path = folder / f"bench-{name}.{kind}"
            figure.savefig(path, **more)
            paths.append(path)
    return paths


def _of_nights(workload: Result) -> Any:
    """Bars of one night beside those of the next; whiskers from the fastest round to the slowest."""
    from matplotlib.figure import Figure

    told = list(workload["contestants"].values())
    nights = workload["nights"]
    height = 1.3 + BAR_INCHES * len(told)
    figure = Figure(figsize=(3.0 + 1.9 * len(nights), height), layout="constrained")
    axes = figure.subplots(1, len(nights), sharey=True, squeeze=False)[0]
    for axis, night in zip(axes, nights, strict=True):
        _bars(axis, told, night, is_new=night in workload["new_nights"])
        axis.set_title(night, fontsize=9)
    axes[0].set_yticks(range(len(told)), [_plain(each["title"]) for each in told])
    axes[0].set_ylim(len(told) - 0.4, -0.6)
    figure.suptitle(
        f"{workload['title']}: seconds\n{workload['date']}, {count_of(workload['rounds'], 'round')}, "
        f"load {workload['load_before']} before",
        fontsize=9,
    )
    return figure


def _bars(axis: Any, told: list[Result], night: str, *, is_new: bool) -> None:
    widest = max(
        (max(n["seconds"]) for each in told for n in each.get("nights", {}).values()), default=1.0
    )
    for place, each in enumerate(told):
        made = each.get("nights", {}).get(night)
        if made is None:
            _word(axis, place, _missing(each, is_new=is_new))
            continue
        median, seconds = made["median_s"], made["seconds"]
        colour = OUR_COLOUR if each["title"].startswith("kvspark") else THEIR_COLOUR
        axis.barh(place, median, color=colour if made["agrees"] else BEHIND, height=0.7)
        axis.plot([min(seconds), max(seconds)], [place, place], color="black", linewidth=0.8)
        label = f" {median:.1f}" if made["agrees"] else " other rows"
        axis.text(max(seconds), place, label, va="center", fontsize=7)
    axis.set_xlim(0, widest * 1.25)
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(axis="y", length=0)


def _missing(told: Result, *, is_new: bool) -> str:
    if "why_not" in told:
        return "not its work"
    return "failed" if "error" in told or is_new else "as cold"


def _word(axis: Any, place: int, word: str) -> None:
    axis.text(0, place, f" {word}", va="center", fontsize=7, color="gray", style="italic")


def _of_sizes(workload: Result) -> Any:
    """Microseconds a row after start-up, over the rows of the table."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.2, 3.4), layout="constrained")
    axis = figure.subplots()
    for told in workload["contestants"].values():
        costs = told.get("us_a_row", {})
        label = _plain(told["title"]) + (", failed" if "error" in told else "")
        axis.plot([int(size) for size in costs], list(costs.values()), marker="o", label=label)
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_xlabel("rows")
    axis.set_ylabel("microseconds a row after start-up")
    axis.set_title(f"{workload['title']}, {workload['date']}", fontsize=9)
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def _plain(title: str) -> str:
    return title.replace("`", "")
