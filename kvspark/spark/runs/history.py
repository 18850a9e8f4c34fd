"""The history of an output: one line for each run that published it, `_kvspark/history.jsonl` in it.

It is written into what is staged, behind the lines of the output that this one replaces. So it takes its
place in the step that publishes the rows: a run that dies leaves the old history with the old output,
and nobody changes it afterwards. Versions that are kept beside the output have theirs, so who reads
all of them misses nothing when an older one was put back. A run that failed has no line: it published
nothing.

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

FILE_NAME = "history.jsonl"
KEPT = 400
"""Lines of some 500 bytes: a run a night for more than a year."""

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
    """The runs that published to the folder `output`, the oldest first; those of kept versions too.

    What is damaged is left out, whatever it is: a history is worth no failure.
    """
    found: list[PastRun | None] = []
    for version in (output, *_kept_beside(output)):
        folder = version / REPORT_FOLDER
        found += map(_run, _text(folder / FILE_NAME).splitlines()[-KEPT:])
        # An output of a version without histories has a report, and so a history of one run.
        found.append(_run(_text(folder / REPORT_NAME)))
    return _sorted(run for run in found if run is not None)


def write_history(folder: Path, runs: Iterable[PastRun]) -> None:
    """Writes the newest of `runs` as the history of what is staged, whose report folder is `folder`."""
    lines = [json.dumps(run.to_json(), allow_nan=False) for run in _sorted(runs)]
    (folder / FILE_NAME).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_report(report: RunReport, staged: Path, *, output: Path) -> None:
    """Writes `report` into what is staged, and with it the history of `output`, which it will replace."""
    report.write(staged / REPORT_FOLDER)
    past = PastRun.from_json(report.to_json())
    write_history(staged / REPORT_FOLDER, [*read_history(output), past])


def _kept_beside(output: Path) -> list[Path]:
    try:
        return sorted((output.parent / f".kvspark-{output.name}" / "kept").iterdir())
    except OSError:
        return []


def _sorted(runs: Iterable[PastRun]) -> tuple[PastRun, ...]:
    by_key = {run.key: run for run in runs}
    return tuple(by_key[key] for key in sorted(by_key))[-KEPT:]


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
    texts = (run.run_id, run.started_at, run.name, run.model, run.fingerprint)
    saved = 0.0 if run.seconds_saved is None else run.seconds_saved
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("no text")
    if not all(isinstance(number, int | float) for number in (*numbers, saved)):
        raise TypeError("no number")
    _ = run.computed, run.hit_rate, run.bad_row_count
