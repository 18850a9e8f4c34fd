"""Which entries hold something of a row: one for each stage and each arithmetic that is known."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kvspark.errors import KvsparkError, SchemaError, UsageError
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.infer.rows.array_columns import arrow_column
from kvspark.infer.rows.columns import Column, column
from kvspark.infer.rows.distinct import row_keys
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.run.numerics import numerics_digest
from kvspark.plan.plan import Plan
from kvspark.spec import TensorSpec

MOST_THREADS = 64
"""Threads of a task up to which entries are found by their keys; those of more are removed with all
that other machines have computed."""


def identities_of_rows(
    bundle: Bundle, inputs: Mapping[str, Any], plan: Plan | None = None
) -> dict[bytes, list[bytes]]:
    """The canonical bytes of the rows at each stage, by the identity of the stage on this machine.

    With a plan that has lossy codecs, those of the exact stages and of the rounded ones.
    inputs: for each input of the model as many values as there are rows, as `Model.predict` takes them.

    Raises:
        DataError: a value is not what the model takes.
        UsageError: an input is missing, or they are not as many.
    """
    missing = [spec.name for spec in bundle.inputs if spec.name not in inputs]
    if missing or len({len(values) for values in inputs.values()}) != 1:
        raise UsageError(
            f"rows to purge need every input of the model, got {', '.join(inputs) or 'none'}; "
            f"it takes {', '.join(spec.name for spec in bundle.inputs)}"
        )
    columns = {spec.name: _column(inputs[spec.name], spec) for spec in bundle.inputs}
    places = [numerics_digest(threads=threads) for threads in range(1, MOST_THREADS + 1)]
    found: dict[bytes, list[bytes]] = {}
    for each in compiled_plan(bundle, plan).stages.values():
        stage = each.stage
        rows = row_keys([columns[name] for name in stage.inputs])
        for place in places if stage.has_arithmetic else [b""]:
            found[stage.fingerprint + place] = rows
            found[each.identity(place)] = rows
    return found


def _column(values: Any, spec: TensorSpec) -> Column:
    try:
        return column(arrow_column(values, spec), spec)
    except KvsparkError:
        raise
    except (ValueError, TypeError):
        # numpy's own message quotes the value.
        raise SchemaError(
            f"input {spec.name!r} holds a value that the model does not take"
        ) from None


def read_rows(path: Path) -> dict[str, list[Any]]:
    """The rows of a file of JSON lines, `{"input": value, ...}` each, by input.

    Raises:
        UsageError: the file cannot be read, is empty, or a line is not such a row. What a row holds is
            never part of the message.
    """
    columns: dict[str, list[Any]] = {}
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = [json.loads(line) for line in lines]
    except (OSError, ValueError) as exc:
        raise UsageError(
            f"{path} cannot be read as JSON lines ({type(exc).__name__}); write one row a line, "
            'such as {"text": "..."}'
        ) from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or row.keys() != rows[0].keys():
            raise UsageError(f"{path} line {number} has other inputs than line 1")
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    if not columns:
        raise UsageError(f"{path} holds no row")
    return columns


def read_subjects(path: Path) -> list[str]:
    """The subjects of a file, one a line as it stands.

    Raises:
        UsageError: the file cannot be read or is empty. Whom it names is never part of the message.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as exc:
        raise UsageError(
            f"{path} cannot be read as text ({type(exc).__name__}); write one subject a line"
        ) from None
    if not lines:
        raise UsageError(f"{path} names no subject; write one a line")
    return lines
