"""The history of an output: one line for each run of it, `_kvspark/history.jsonl` in it.

It is written into what is staged, behind the lines of the output that this one replaces. So it takes its
place in the step that publishes the rows: a run that dies leaves the old history with the old output,
and nobody changes it afterwards. Versions that are kept beside the output have theirs, so who reads
all of them misses nothing when an older one was put back. Runs that published nothing have their lines
beside the output (`kvspark.spark.runs.unpublished`), until the next run that publishes takes them along.

A line is a part of the run's `run.json`, with the same names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, final

from kvspark.spark.runs.run_report import FILE_NAME as REPORT_NAME
from kvspark.spark.runs.run_report import REPORT_FOLDER, RunReport
from kvspark.spark.runs.unpublished import (
    add_unpublished,
    beside,
    drop_unpublished,
    unpublished_lines,
)
from kvspark.table.publish.dead_run import DeadRun

FILE_NAME = "history.jsonl"
KEPT = 400
"""Lines of some 500 bytes: a run a night for more than a year."""

PUBLISHED = "published"

KEPT_UNPUBLISHED = 100
"""Lines of runs that published nothing, besides."""

_STAGE_FIELDS = ("fingerprint", "lookups", "hits", "computed")


@final
@dataclass(frozen=True, slots=True)
class PastRun:
    """One run of an output, in short."""

    run_id: str
    started_at: str
    name: str = ""
    logical_date: str | None = None
    model: str = ""
    fingerprint: str = ""
    rows_in: int = 0
    rows_out: int = 0
    rows_quarantined: int = 0
    output_bytes: int = 0
    total_seconds: float = 0.0
    seconds_saved: float | None = None
    degraded: tuple[str, ...] = ()
    bad_rows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    stages: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By stage: `fingerprint`, `lookups`, `hits`, `computed`."""
    state: str = PUBLISHED
    """`published`, or what became of a run that published nothing: `failed`, `interrupted`, `died`."""
    exit_code: int | None = 0
    """None for a run that died: nobody knows."""
    code: str | None = None
    """The KVS code of the error."""
    phase: str | None = None
    """Where it ended: `open`, `read`, `preflight`, `plan`, `score`, `validate`, `publish`; None before the first."""
    message: str | None = None
    """The line that the run ended with."""

    @property
    def key(self) -> tuple[str, str]:
        """What tells two runs apart: the later run of one id is another run."""
        return self.started_at, self.run_id

    @property
    def computed(self) -> int:
        """Rows that some stage had to compute."""
        return max((int(stage["computed"]) for stage in self.stages.values()), default=0)

    @property
    def hit_rate(self) -> float | None:
        """Hits of all look-ups; None where nothing was looked up."""
        lookups = sum(int(stage["lookups"]) for stage in self.stages.values())
        return (
            sum(int(stage["hits"]) for stage in self.stages.values()) / lookups if lookups else None
        )

    @property
    def bad_row_count(self) -> int:
        """Rows without a result."""
        return sum(sum(kinds.values()) for kinds in self.bad_rows.values())

    def to_json(self) -> dict[str, Any]:
        """This value as plain JSON types."""
        return {**asdict(self), "degraded": list(self.degraded)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PastRun:
        """The run that a line of a history, or a whole `run.json`, tells of.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is neither.
        """
        known = {each.name for each in fields(cls)} - {"stages", "degraded"}
        stages = {
            str(name): {key: stage[key] for key in _STAGE_FIELDS}
            for name, stage in value.get("stages", {}).items()
        }
        run = cls(
            **{name: value[name] for name in value if name in known},
            stages=stages,
            degraded=tuple(map(str, value.get("degraded", ()))),
        )
        _check(run)
        return run


def read_history(output: Path) -> tuple[PastRun, ...]:
    """The runs of the folder `output`, the oldest first; those of kept versions, and those that failed, too.

    What is damaged is left out, whatever it is: a history is worth no failure.
    """
    found: list[PastRun | None] = [*map(_run, unpublished_lines(output))]
    for version in (output, *_kept_beside(output)):
        folder = version / REPORT_FOLDER
        found += map(_run, _text(folder / FILE_NAME).splitlines()[-KEPT:])
        # An output of a version without histories has a report, and so a history of one run.
        found.append(_run(_text(folder / REPORT_NAME)))
    return _sorted(run for run in found if run is not None)


def own_runs(output: Path) -> tuple[PastRun, ...]:
    """The runs that had published when the output in the folder `output` was made, the oldest first.

    Without those that were published after it, of which kept versions tell once it was put back.
    """
    lines = _text(output / REPORT_FOLDER / FILE_NAME).splitlines()
    found = [run for run in map(_run, lines) if run is not None and run.state == PUBLISHED]
    return _sorted(found)


def write_history(folder: Path, runs: Iterable[PastRun]) -> None:
    """Writes the newest of `runs` as the history of what is staged, whose report folder is `folder`."""
    lines = [json.dumps(run.to_json(), allow_nan=False) for run in _sorted(runs)]
    (folder / FILE_NAME).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_report(report: RunReport, staged: Path, *, output: Path) -> None:
    """Writes `report` into what is staged, and with it the history of `output`, which it will replace."""
    report.write(staged / REPORT_FOLDER)
    past = PastRun.from_json(report.to_json())
    write_history(staged / REPORT_FOLDER, [*read_history(output), past])


def add_run(output: Path, run: PastRun) -> None:
    """Adds the line of a run that published nothing, beside `output`.

    Raises:
        OSError: the file system refused.
    """
    add_unpublished(output, line_of(run))


def line_of(run: PastRun) -> str:
    """`run` as a line of a history."""
    return json.dumps(run.to_json(), allow_nan=False)


def add_dead(output: Path, dead: DeadRun) -> None:
    """Adds the line of a run that died with the lock, unless it had published.

    Raises:
        OSError: the file system refused.
    """
    run = past_of(dead, output)
    if run is not None:
        add_run(output, run)


def past_of(dead: DeadRun, output: Path) -> PastRun | None:
    """What the history says of a run that died with the lock of `output`; None if it had published by then."""
    later = (run for run in read_history(output) if run.started_at >= dead.since)
    if any(run.state == PUBLISHED and run.run_id == dead.run_id for run in later):
        return None
    message = "its process was killed, or its machine stopped; nothing was published"
    return PastRun(dead.run_id, dead.since, state="died", exit_code=None, message=message)


def drop_taken(output: Path) -> None:
    """Removes the lines beside `output` that were there when the history in it was written.

    Raises:
        OSError: the file system refused.
    """
    published = set(_text(output / REPORT_FOLDER / FILE_NAME).splitlines())
    newest = _run(_text(output / REPORT_FOLDER / REPORT_NAME))

    def is_taken(line: str) -> bool:
        run = _run(line)
        is_older = newest is not None and run is not None and run.started_at < newest.started_at
        return run is None or is_older or line in published

    drop_unpublished(output, is_taken)


def _kept_beside(output: Path) -> list[Path]:
    try:
        return sorted((beside(output) / "kept").iterdir())
    except OSError:
        return []


def _sorted(runs: Iterable[PastRun]) -> tuple[PastRun, ...]:
    by_key = {(*run.key, run.state): run for run in runs}
    ordered = [by_key[key] for key in sorted(by_key)]
    # A job that fails each minute pushes no run out that published.
    left = {True: KEPT, False: KEPT_UNPUBLISHED}
    kept: list[PastRun] = []
    for run in reversed(ordered):
        is_published = run.state == PUBLISHED
        left[is_published] -= 1
        if left[is_published] >= 0:
            kept.append(run)
    return tuple(reversed(kept))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _run(text: str) -> PastRun | None:
    try:
        return PastRun.from_json(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _check(run: PastRun) -> None:
    numbers = (run.rows_in, run.rows_out, run.rows_quarantined, run.output_bytes, run.total_seconds)
    texts = (run.run_id, run.started_at, run.name, run.model, run.fingerprint, run.state)
    ended = (run.code or "", run.phase or "", run.message or "")
    saved = 0.0 if run.seconds_saved is None else run.seconds_saved
    if not all(isinstance(text, str) for text in (*texts, *ended)):
        raise TypeError("no text")
    if not all(isinstance(number, int | float) for number in (*numbers, saved, run.exit_code or 0)):
        raise TypeError("no number")
    _ = run.computed, run.hit_rate, run.bad_row_count
