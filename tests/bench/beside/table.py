"""What was measured as Markdown: a table for each workload, and the ratios that were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kvspark.wording import count_of
from tests.bench.beside.asked import answers, seconds_of
from tests.bench.beside.contestants import SPARKS
from tests.bench.foretold.told import markdown as foretold_lines

Result = Mapping[str, Any]

NOTE = """
Seconds from Parquet to Parquet: the median of the rounds, and half of what lies between the fastest and the slowest.
"as cold": it remembers nothing between nights, so that this night computes every row. "few rows" is the second night
of a few other rows: what a night costs before its rows do. "load" is the machine's before the contestant began.
""".strip()


def markdown(told: Result) -> str:
    """The whole page."""
    workloads = told["workloads"]
    lines = [f"# What `make bench` measured on {told['machine']}", "", NOTE, ""]
    for name, workload in workloads.items():
        lines += [*(_of_sizes(workload) if name == "scale" else _of_nights(name, workload)), ""]
    if foretold := told.get("parts", {}).get("foretold"):
        lines += foretold_lines(foretold)
    lines += asked_lines(workloads)
    return "\n".join(lines) + "\n"


def asked_lines(workloads: Mapping[str, Result]) -> list[str]:
    """The ratios as a table, misses as misses."""
    rows = [
        (
            each["workload"],
            each["ratio"],
            f">= {each['asked']}",
            "not measured" if each["measured"] is None else f"{each['measured']:.2f}",
            _met(each),
        )
        for each in answers(workloads)
    ]
    heading = ("workload", "how much as fast", "asked", "measured", "met")
    return ["## Asked", "", *_table(heading, rows)] if rows else []


def _met(answer: Mapping[str, Any]) -> str:
    if answer["measured"] is None:
        return ""
    return "yes" if answer["met"] else "**no**"


def _of_nights(name: str, workload: Result) -> Iterator[str]:
    yield f"## {name}: {workload['title']}"
    yield ""
    yield (
        f"{workload['date']}, load {workload['load_before']} before and {workload['load_after']} after, "
        f"{count_of(workload['rounds'], 'round')} in turns."
    )
    yield ""
    nights = workload["nights"]
    heading = ("contestant", *nights, "rows/s, cold", "x `predict_batch_udf`", "few rows", "load")
    rows = [_row(told, workload) for told in workload["contestants"].values()]
    yield from _table(heading, rows)


def _row(told: Result, workload: Result) -> tuple[str, ...]:
    """A contestant's line: seconds, or in its first cell why there are none."""
    nights = workload["nights"]
    empty = [""] * (len(nights) + 3)
    if "why_not" in told:
        return (told["title"], f"not: {told['why_not']}", *empty)
    if "error" in told:
        return (told["title"], f"failed: {_escaped(told['error'])}", *empty)
    cells = [_cell(told["nights"].get(night)) for night in nights]
    cold = told["nights"][nights[0]]
    theirs = seconds_of(workload, SPARKS, nights[0])
    ratio = f"{theirs / cold['median_s']:.2f}" if theirs and cold["agrees"] else ""
    version = f"{told['title']} ({told['version']})"
    few, load = f"{told['few_rows_s']:.2f}", f"{told['load']:.1f}"
    return (version, *cells, f"{cold['rows_per_s']:,.0f}", ratio, few, load)


def _cell(night: Result | None) -> str:
    if night is None:
        return "as cold"
    if not night["agrees"]:
        return f"other rows, by {night['largest_difference']:.2g}"
    spread = f" ±{50 * night['spread']:.0f} %" if len(night["seconds"]) > 1 else ""
    return f"{night['median_s']:.2f}{spread}"


def _of_sizes(workload: Result) -> Iterator[str]:
    yield f"## scale: {workload['title']}"
    yield ""
    yield (
        f"{workload['date']}, load {workload['load_before']} before and {workload['load_after']} after. "
        "Microseconds a row after a night of few rows; megabytes that the driver's Python and JVM had at most."
    )
    yield ""
    sizes = workload["sizes"]
    heading = ("contestant", *(f"{size:,} rows" for size in sizes), "start to first row, s")
    rows = []
    for told in workload["contestants"].values():
        if "error" in told:
            rows.append((told["title"], f"failed: {_escaped(told['error'])}", *[""] * len(sizes)))
            continue
        cells = [
            f"{told['us_a_row'][str(size)]:.2f} us, {told['driver_mb'][str(size)]}"
            for size in sizes
        ]
        start = f"{told['opening_s']:.1f} to open, {told['first_rows_s']:.1f} to the first rows"
        rows.append((told["title"], *cells, start))
    yield from _table(heading, rows)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"|{'---|' * len(heading)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
