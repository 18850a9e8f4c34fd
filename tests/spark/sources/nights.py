"""One night of rows in every format, and the conf of a job that scores it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

from kvspark.config.job import JobConfig
from tests.spark.conftest import features
from tests.spark.small_jobs import job

NAMES = [f"x{place}" for place in range(8)]
COLUMNS = {"id": "bigint", "text": "string", **dict.fromkeys(NAMES, "float")}
TEXTS = ["plain", 'a "quoted", text', "", "  spaces ", "ü 漢 🙂", "line\\n"]
ROWS = 60


def night() -> pa.Table:
    """Rows with texts that are hard to write, and one null."""
    x = features(ROWS, seed=5)
    texts = [None if row == 7 else TEXTS[row % len(TEXTS)] for row in range(ROWS)]
    values = {name: pa.array(x[:, place], pa.float32()) for place, name in enumerate(NAMES)}
    return pa.table({"id": pa.array(range(ROWS)), "text": texts, **values})


def write(table: pa.Table, folder: Path, format_: str) -> Path:
    """Two files of `format_` in `folder`."""
    folder.mkdir(parents=True)
    for number, part in enumerate((table.slice(0, 40), table.slice(40))):
        path = folder / f"{number}.{format_}"
        if format_ == "csv":
            path.write_text(_csv(part), encoding="utf-8")
        elif format_ == "json":
            lines = [json.dumps(row) for row in part.to_pylist()]
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        elif format_ == "orc":
            orc.write_table(part, path)
        else:
            pq.write_table(part, path)
    return folder


def _csv(table: pa.Table) -> str:
    """As RFC 4180 has it."""
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerow(table.column_names)
    for row in table.to_pylist():
        writer.writerow([np.float32(v) if isinstance(v, float) else v for v in row.values()])
    return sink.getvalue()


def inputs(night: Path, format_: str, **more: Any) -> dict[str, Any]:
    """`input` of a conf."""
    columns = {"columns": COLUMNS} if format_ in {"csv", "json"} else {}
    return {"paths": [str(night)], "format": format_, **columns, **more}


def config(folder: Path, asked: Mapping[str, Any], **sections: Any) -> JobConfig:
    """A job that scores what `asked` names, with the model in `folder`."""
    x = {"columns": NAMES}
    made = job(folder, folder, inputs={"x": x}, **sections).model_dump(exclude_unset=True)
    return JobConfig.checked(**{**made, "input": dict(asked)})


def empty_is_null(table: pa.Table) -> pa.Table:
    """What a CSV file can say of `table`."""
    texts = [text or None for text in table["text"].to_pylist()]
    return table.set_column(1, "text", pa.array(texts))
