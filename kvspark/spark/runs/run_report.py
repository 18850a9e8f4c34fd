"""The report of a run: what it read, computed, remembered and wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, final

from kvspark.display import heading
from kvspark.errors import CacheRequiredError, DataError
from kvspark.model.stage.stage import Stage
from kvspark.plan.table import PlanTable
from kvspark.stats import NOTHING, RunStats, StageStats

FORMAT = 1
REPORT_FOLDER = "_kvspark"
"""Of an output: its report, its history, the list of its files, its quarantine."""

FILE_NAME = "run.json"
MOST_NAMES = 1_000
"""Of files that a report lists. It is small enough to be read as a whole."""


@final
@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage in a run."""

    name: str
    fingerprint: str
    upstream: tuple[str, ...]
    seconds_per_row: float | None = None
    """Seconds to compute one row here, on one worker: measured in this run, else in the run that
    wrote the output before, else None."""


@final
@dataclass(frozen=True, slots=True)
class RunReport:
    """What is known of a run when its output is published; `_kvspark/run.json` beside the data."""

    run_id: str
    name: str
    logical_date: str | None
    started_at: str
    """UTC, ISO 8601."""
    model: str
    fingerprint: str
    output: str
    inputs: tuple[str, ...]
    rows_in: int
    rows_out: int
    input_files: int
    empty_input_files: int
    """Files of zero bytes, which were skipped."""
    output_files: int
    output_bytes: int
    stages: tuple[StageReport, ...]
    """In topological order."""
    stats: RunStats
    """What the tasks counted; `degraded` also holds what was wrong with the cache at the start."""
    cache: str | None
    """The store's URL, which never holds a password; None without a cache."""
    seconds: Mapping[str, float]
    """Wall seconds of each phase. `publish` is still 0 in the file: the file is part of what is
    published."""
    seconds_saved: float | None
    """Worker seconds that the cache saved, as `seconds_saved` estimates; None without a cache."""
    versions: Mapping[str, str] = field(default_factory=dict)
    on_bad_row: str = "error"
    rows_quarantined: int = 0
    """Rows that `rows_out` leaves out; they are in `_kvspark/quarantine` beside the report."""
    rows_replaced: int = 0
    """Rows of the table in whose place others came with the same ids."""
    rows_removed: int = 0
    """Rows of the table that went, and none came in their place."""

    lossy: Mapping[str, str] = field(default_factory=dict)
    """The lossy codec of each stage that has one: outputs are not those of the exact model."""
    plan: PlanTable | None = None
    """What was measured before the run, and the plan that followed; None where the plan is the rule's."""
    input_version: str | None = None
    """`version 12` of a table, or the run that published it; None where the input is a list of files."""
    input_since: str | None = None
    """The version since which the rows were added that were read; None where all of `input_version` were."""
    input_part: str | None = None
    """The same for two runs that take the same rows of the same table, whatever it has then."""
    results_digest: str | None = None
    """The same for two runs that give a row the same results: of the model, what it is given, and what becomes of bad rows."""
    input_digest: str | None = None
    """The same for two runs that read the same files."""
    input_names: tuple[str, ...] = ()
    """The files that were read, the first `MOST_NAMES` of them; none where `input_version` says which."""
    writer: str = "spark"
    """Who wrote the rows: `arrow`, `spark`, or `spark: ` and why it was not Arrow, which the conf asked for."""
    reader: str = "spark"
    """Who read the rows that were scored: `spark`, or `workers`, those that scored them."""
    partition_types: Mapping[str, str] = field(default_factory=dict)
    """The type of each column that the folders of the output are named of, which no file has."""

    @property
    def total_seconds(self) -> float:
        """Wall seconds of all phases."""
        return sum(self.seconds.values())

    @property
    def degraded(self) -> frozenset[str]:
        """Why the cache was not used, or not all the time, as in the JSON; empty in a healthy run."""
        return self.stats.degraded

    @property
    def cache_errors(self) -> Mapping[str, int]:
        """Trouble with the cache by its reason, as in the JSON."""
        return self.stats.cache_errors

    def to_json(self) -> dict[str, Any]:
        """This value as plain JSON types."""
        value = asdict(replace(self, stats=NOTHING, plan=None))
        value["plan"] = None if self.plan is None else self.plan.to_json()
        stats = self.stats.to_json()
        value["stages"] = {
            stage.name: {
                "fingerprint": stage.fingerprint,
                "upstream": list(stage.upstream),
                **asdict(self.stats.stages.get(stage.name, StageStats())),
                "rest": stats["rests"].get(stage.name),
                "seconds_per_row": stage.seconds_per_row,
            }
            for stage in self.stages
        }
        del value["stats"]
        for name in ("cache_errors", "degraded", "bad_rows"):
            value[name] = stats[name]
        value["seconds"] = {name: round(seconds, 3) for name, seconds in self.seconds.items()}
        value["total_seconds"] = round(self.total_seconds, 3)
        return {"format": FORMAT, **value}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RunReport:
        """The report that `to_json` wrote, by this version or one before it.

        Raises:
            ValueError, TypeError, KeyError, AttributeError: it is none.
        """
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']!r}, and {FORMAT} is read here")
        stages = value["stages"]
        stats = {
            "rows": value["rows_in"],
            "stages": stages,
            **{name: value[name] for name in ("cache_errors", "degraded")},
            "bad_rows": value.get("bad_rows", {}),
            "rests": {name: stage["rest"] for name, stage in stages.items() if stage.get("rest")},
        }
        known = {each.name for each in fields(cls)} - {
            "stages",
            "stats",
            "inputs",
            "input_names",
            "plan",
        }
        plan = value.get("plan")  # reports of 0.1 before measured plans have none
        return cls(
            **{name: value[name] for name in value if name in known},
            inputs=tuple(value["inputs"]),
            input_names=tuple(value.get("input_names", ())),
            stages=tuple(
                StageReport(n, s["fingerprint"], tuple(s["upstream"]), s["seconds_per_row"])
                for n, s in stages.items()
            ),
            stats=RunStats.from_json(stats),
            plan=None if plan is None else PlanTable.from_json(plan),
        )

    def check_cache_was_used(self, *, is_required: bool) -> None:
        """Does nothing if the cache was used all the time, or need not be.

        Raises:
            CacheRequiredError: it was not; says why.
        """
        degraded = sorted(self.stats.degraded)
        if is_required and degraded:
            raise CacheRequiredError(
                f"the cache was required and the run is degraded ({', '.join(degraded)}); the output "
                "is complete and published"
            )

    def __repr__(self) -> str:
        return f"RunReport({self.run_id!r}, {self.stats.line()}, {self.total_seconds:.1f} s, output {self.output!r})"

    def _repr_html_(self) -> str:
        return heading(repr(self)) + self.stats._repr_html_()

    def write(self, folder: Path) -> None:
        """Writes `run.json` to `folder`, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_json(), indent=2, allow_nan=False)
        (folder / FILE_NAME).write_text(f"{text}\n", encoding="utf-8")


def stage_reports(
    stages: Sequence[Stage], stats: RunStats, known: Mapping[str, float]
) -> tuple[StageReport, ...]:
    """The stages of a run; `known` are seconds per row by fingerprint, measured in an earlier run."""
    return tuple(
        StageReport(
            stage.name,
            stage.fingerprint.hex(),
            stage.upstream,
            _seconds_per_row(
                stats.stages.get(stage.name, StageStats()), known.get(stage.fingerprint.hex())
            ),
        )
        for stage in stages
    )


def seconds_saved(stages: Sequence[StageReport], stats: RunStats) -> float:
    """An estimate of the worker seconds that hits saved, less what the cache cost.

        sum over stages ((hits + leased) x sum of seconds_per_row of the stage and of all stages above it)
        - sum over stages (seconds_lookup + seconds_insert + seconds_waited)

    A hit at a stage spares that stage and, since nobody asks them, all stages that lead to it. The
    seconds per row are those measured where rows were computed: in this run, else in the run whose
    output this one replaces. A stage that neither has computed counts as 0, so that the estimate is
    rather too low. It may be negative: then the cache cost more than it saved.
    """
    by_name = {stage.name: stage for stage in stages}
    saved = 0.0
    for stage in stages:
        spared = _with_upstream(stage.name, by_name)
        cost = sum(by_name[name].seconds_per_row or 0.0 for name in spared)
        counted = stats.stages.get(stage.name, StageStats())
        saved += (counted.hits + counted.leased) * cost
        saved -= counted.seconds_lookup + counted.seconds_insert + counted.seconds_waited
    return saved


def read_report(folder: Path) -> RunReport | None:
    """The report in `folder`; None if there is none.

    Raises:
        DataError: there is one, and it is damaged or of another version.
    """
    path = folder / FILE_NAME
    try:
        return RunReport.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise DataError(f"{path} cannot be read ({exc.strerror}); nothing was changed") from exc
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise DataError(
            f"{path} is no report that this version can read ({type(exc).__name__}); nothing was "
            "changed, the next run writes a new one"
        ) from exc


def known_seconds(output: Path, folder: str) -> dict[str, float]:
    """Seconds per row by fingerprint, from the report that lies in `output`; empty if there is none."""
    try:
        stages = json.loads((output / folder / FILE_NAME).read_text(encoding="utf-8"))["stages"]
        return {
            stage["fingerprint"]: float(stage["seconds_per_row"])
            for stage in stages.values()
            if stage["seconds_per_row"] is not None
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # an estimate is not worth a failure


def _seconds_per_row(stats: StageStats, known: float | None) -> float | None:
    return stats.seconds_compute / stats.computed if stats.computed else known


def _with_upstream(name: str, by_name: Mapping[str, StageReport]) -> set[str]:
    found = {name}
    for upstream in by_name[name].upstream:
        found |= _with_upstream(upstream, by_name)
    return found
