"""A search for a job's settings: on a terminal while it goes on, in words at its end, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any, TextIO, final

from kvspark.config.writing.as_sets import as_sets
from kvspark.spark.tuning.tune import Setting
from kvspark.tune.space import AS_IT_IS, Candidate
from kvspark.tune.trial import Trial
from kvspark.tune.tuning import LEAST_GAIN, ROUNDS, Outcome
from kvspark.wording import count_of

_OTHER_BITS = "other bits: its entries are all computed anew"
_PARTS = {"turn": "in turns", "last": "once more"}


@final
class TuningPrinter:
    """Says what is tried before it is tried, and what came of it behind that on the same line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def opened(self, setting: Setting) -> None:
        """What is searched, an option a line."""
        times = "" if setting.repeats == 1 else f", {setting.repeats} times each"
        self._say(
            f"{setting.rows:,} of {count_of(setting.of_rows, 'row')}{times}, "
            f"{count_of(setting.cores, 'core')}, Spark {setting.master}"
        )
        if setting.store is not None:
            self._say(f"a first night and a next one, with {setting.store}")
        elif setting.left_out is not None:
            self._say(f"without a cache, no codec and no overlap: {setting.left_out}")
        else:
            self._say("without a cache, as the conf")
        self._say(f"{count_of(setting.space.size, 'candidate')}:")
        for option in setting.space.options:
            told = [f"{c.text}{'*' if c.changes_bits else ''}" for c in option.choices]
            self._say(f"  {option.name}: {', '.join(told)}")
        if any(c.changes_bits for option in setting.space.options for c in option.choices):
            self._say(f"  * {_OTHER_BITS}")

    def begins(self, number: int, candidate: Candidate, part: str) -> None:
        """What is measured now, without the end of its line."""
        told = f"{_PARTS[part]}, {candidate.told}" if part in _PARTS else candidate.told
        self._stream.write(f"trial {number}: {told} ...")
        self._stream.flush()

    def ended(self, trial: Trial, best: Trial | None, baseline: float, part: str) -> None:
        """What came of it."""
        if trial.measured is None:
            self._say(f" failed: {trial.error}")
            return
        measured = trial.measured
        told = f" {measured.rate:,.0f} rows/s ({measured.rate / baseline:.2f}x"
        if len(measured.parts) > 1:
            nights = (f"{part} {rate:,.0f}" for part, rate in measured.parts.items())
            told += f": {', '.join(nights)}"
        told += ")"
        if measured.change is not None:
            told += f", outputs change by {measured.change:.1g}"
        if measured.troubles:
            told += f", store: {', '.join(measured.troubles)}"
        if part == "trial" and best is not None and best is not trial:
            told += f", best so far {best.rate:,.0f} (trial {best.number})"
        self._say(told)

    def _say(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


def verdict(outcome: Outcome) -> list[str]:
    """What came of a search, a line each."""
    failed = sum(trial.measured is None for trial in outcome.trials)
    count = count_of(len(outcome.trials), "trial")
    as_is = median(outcome.baseline)
    told = f"the conf as it is made {as_is:,.0f} rows/s in the median of {len(outcome.baseline)}"
    lines = [f"{count}, {failed} failed; {told}, spread {outcome.spread:.0%}"]
    if outcome.best is None:
        return [*lines, f"nothing was faster than the conf by more than {LEAST_GAIN:.0%}"]
    if len(outcome.turns) < ROUNDS:
        return [*lines, f"{outcome.best.told}: failed in turns with the conf"]
    told = f"{outcome.best.told}: {1 + outcome.gain:.2f} times the rows a second, median of {ROUNDS} in turns"
    if not outcome.is_better:
        return [*lines, f"{told}; that is not more than the noise"]
    lines.append(f"{told}, faster in each of them than the conf in any")
    if outcome.best.changes_bits:
        lines.append(_OTHER_BITS)
    return lines


def changes(outcome: Outcome) -> list[str]:
    """What the best changes and why, a line for each option."""
    made = []
    for option, choice in () if outcome.best is None else outcome.best.changed:
        was = option.choices[0].text.removesuffix(f" ({AS_IT_IS})")
        alone = outcome.alone.get(option.name)
        why = "" if alone is None else f"; alone {alone:.2f}x in one trial"
        bits = "; other bits" if choice.changes_bits else ""
        made.append(f"{option.name}: {was} -> {choice.text}{why}{bits}")
    return made


def tuning_json(setting: Setting, outcome: Outcome, written: str | None) -> dict[str, Any]:
    """The search as plain JSON types."""
    best = outcome.best
    return {
        "sample_rows": setting.rows,
        "rows": setting.of_rows,
        "repeats": setting.repeats,
        "master": setting.master,
        "cores": setting.cores,
        "store": setting.store,
        "candidates": setting.space.size,
        "trials": [_trial(trial) for trial in outcome.trials],
        "baseline_rows_per_s": list(outcome.baseline),
        "turns_rows_per_s": [list(turn) for turn in outcome.turns],
        "best": None if best is None else _candidate(best),
        "gain": outcome.gain,
        "spread": outcome.spread,
        "is_better": outcome.is_better,
        "written": written,
    }


def _trial(trial: Trial) -> dict[str, Any]:
    measured = trial.measured
    made: dict[str, Any] = {
        "number": trial.number,
        **_candidate(trial.candidate),
        "seconds": trial.seconds,
    }
    if measured is None:
        return {**made, "error": trial.error}
    parts: Mapping[str, float] = measured.parts
    return {
        **made,
        "rows_per_s": measured.rate,
        "parts_rows_per_s": dict(parts),
        "outputs_change": measured.change,
        "degraded": list(measured.troubles),
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "choices": {option.name: choice.text for option, choice in candidate.changed},
        "sets": as_sets(candidate.sets),
        "changes_bits": candidate.changes_bits,
    }
