"""How many of the first rows a run would set aside, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyspark.sql import functions as F

from kvspark.cache.doctor.finding import Finding
from kvspark.config.table.input_table import InputConfig
from kvspark.errors import BadRowsError
from kvspark.infer.checks.preflight import SAMPLE_ROWS
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.model.run.device import CPU, has_gpu
from kvspark.spark.badrows.run_bad_rows import check_bad_rows
from kvspark.spark.columns.column_map import ColumnMap, quoted
from kvspark.spark.sources.input.source import Source
from kvspark.stats import RunStats
from kvspark.wording import count_of

if TYPE_CHECKING:
    from kvspark.infer.rows.bad_rows import BadRow

_EFFECTS = {"quarantine": "left out and recorded in _kvspark/quarantine", "null": "null outputs"}


def bad_sample(
    config: InputConfig, source: Source, compiled: CompiledPlan, columns: ColumnMap
) -> tuple[Finding, BadRowsError | None]:
    """How many of the first rows of `source` are bad, by stage and kind of error; what the run would fail with.

    It fails where these alone are more than `config` allows.
    """
    count, bad = _bad_rows(source, compiled, columns)
    if not bad:
        return Finding("ok", "bad rows", f"none of the first {count_of(count, 'row')}"), None
    kinds = Counter((why.stage, why.error) for why in bad.values())
    told = f"{len(bad):,} of the first {count_of(count, 'row')}: {_reasons(bad, kinds)}"
    by_stage: dict[str, dict[str, int]] = {}
    for (stage, error), rows in kinds.items():
        by_stage.setdefault(stage, {})[error] = rows
    try:
        check_bad_rows(config, RunStats(bad_rows=by_stage), source.rows)
    except BadRowsError as exc:
        return Finding("bad", "bad rows", f"{told}; {exc.line()}"), exc
    effect = _EFFECTS[config.on_bad_row]
    return Finding("warn", "bad rows", f"{told} (input.on_bad_row: {effect})"), None


def _bad_rows(
    source: Source, compiled: CompiledPlan, columns: ColumnMap
) -> tuple[int, Mapping[int, BadRow]]:
    """How many rows were looked at, and the bad ones among them; on a driver without their GPU only nulls are seen."""
    from kvspark.infer.predict.predict_apart import bad_rows
    from kvspark.infer.predict.predictor import Predictor
    from kvspark.infer.rows.readable import readable

    faults = columns.faults
    numbers = [] if faults is None else [columns.hidden[-1]]
    names = dict.fromkeys([*columns.inputs.values(), *numbers])
    sample = source.df.select([F.col(quoted(c)) for c in names]).limit(SAMPLE_ROWS).toArrow()
    arrays = {name: sample.column(c).combine_chunks() for name, c in columns.inputs.items()}
    if compiled.device != CPU and not has_gpu():
        bad = readable(arrays, compiled.bundle.inputs, sample.num_rows).bad
    else:
        bad = bad_rows(Predictor(compiled.uncached()), arrays)
    if faults is not None:
        bad = faults.by_column(sample.column(numbers[0]), bad)
    return sample.num_rows, bad


def _reasons(bad: Mapping[int, BadRow], kinds: Counter[tuple[str, str]]) -> str:
    """Each kind with its number of rows and what is said of the first of them, the most frequent first."""
    said: dict[tuple[str, str], str] = {}
    for row in sorted(bad):
        said.setdefault((bad[row].stage, bad[row].error), bad[row].message)
    return "; ".join(
        f"{stage} {error} {rows:,} ({said[stage, error]})"
        for (stage, error), rows in kinds.most_common()
    )
