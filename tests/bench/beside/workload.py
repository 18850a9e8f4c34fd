"""What is scored: tables, models and the nights on which they meet, in a folder that any environment reads.

FOLDER/workload.json     a `Workload`
FOLDER/TABLE.parquet     `id` and the model's inputs; `others` has rows that no night has
FOLDER/*.safetensors     weights, by kind of work (`plain.py`)
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CORES = 2
"""What every contestant may use: one process of two threads, or two of one."""

Kind = Literal["texts", "pairs", "tabular", "trees", "pictures"]
Columns = dict[str, np.ndarray]

OTHERS = "others"


@final
@dataclass(frozen=True, slots=True)
class Night:
    """One run: a table, and which of the workload's heads scores it."""

    name: str
    table: str
    head: int = 0
    is_new: bool = False
    """True if no night before had these rows: what remembers nothing runs these nights only."""


WARM_UP = Night("warm-up", OTHERS)


@final
@dataclass(frozen=True, slots=True)
class Workload:
    """A model, and the nights of its life."""

    name: str
    title: str
    kind: Kind
    columns: tuple[str, ...]
    """The model's inputs, in the order of its arguments."""
    widths: tuple[int, ...]
    """Items of each input; 0 for a text or the bytes of a picture."""
    width: int
    """Items of an output; 1 for a number."""
    rows: int
    call_rows: int
    """Rows that a call of the model gets where a contestant lets its user say so."""
    tolerance: float
    """The most that two contestants' outputs differ in any item: float32 in batches of other shapes."""
    nights: tuple[Night, ...]

    @property
    def heads(self) -> range:
        """The heads that some night uses."""
        return range(1 + max(night.head for night in self.nights))

    def write(self, folder: Path) -> None:
        """Leaves this in `folder`."""
        (folder / "workload.json").write_text(json.dumps(asdict(self)))


def read_workload(folder: Path) -> Workload:
    """What `write` left."""
    told: dict[str, Any] = json.loads((folder / "workload.json").read_text())
    told = {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}
    told["nights"] = tuple(Night(**night) for night in told["nights"])
    return Workload(**told)


def table_path(folder: Path, night: Night) -> Path:
    """The table of a night."""
    return folder / f"{night.table}.parquet"


def write_table(table: pa.Table, path: Path) -> None:
    """In twice as many row groups as there are cores, so that every reader can share the work."""
    pq.write_table(table, path, row_group_size=max(-(-table.num_rows // (2 * CORES)), 1))


def inputs_of(work: Workload, table: pa.Table) -> Columns:
    """The model's inputs: float32 (rows, width), or texts and bytes as objects."""
    given = {}
    for name, width in zip(work.columns, work.widths, strict=True):
        column = table[name]
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        given[name] = array_of(column, width)
    return given


def array_of(column: pa.Array, width: int) -> np.ndarray:
    """One input as `inputs_of` gives it."""
    if width:
        flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
        return flat.astype(np.float32, copy=False).reshape(-1, width)
    cells: np.ndarray = column.to_numpy(zero_copy_only=False)
    return cells


def stacked(cells: np.ndarray, width: int) -> np.ndarray:
    """One input as `inputs_of` gives it, from a column of pandas: its lists are arrays by themselves."""
    return np.stack(list(cells)).astype(np.float32, copy=False) if width else cells


def outputs_array(outputs: np.ndarray) -> pa.Array:
    """Outputs, (rows,) or (rows, width), as a column."""
    if outputs.ndim == 1:
        return pa.array(outputs.astype(np.float32, copy=False))
    flat = pa.array(np.ascontiguousarray(outputs, dtype=np.float32).reshape(-1))
    offsets = np.arange(len(outputs) + 1, dtype=np.int32) * outputs.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def read_outputs(work: Workload, target: Path) -> np.ndarray:
    """float32 (rows, width) in the order of the ids, from what a contestant wrote."""
    table = pq.ParquetDataset(target).read(columns=["id", "output"])
    order = np.argsort(table["id"].to_numpy(), kind="stable")
    column = table["output"].combine_chunks()
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    flat = column if work.width == 1 and not pa.types.is_nested(column.type) else column.flatten()
    outputs: np.ndarray = flat.to_numpy(zero_copy_only=False)
    return outputs.astype(np.float32, copy=False).reshape(len(order), work.width)[order]


def slug(night: str) -> str:
    """A night's name as a folder's."""
    return re.sub(r"[^a-z0-9]+", "-", night.lower()).strip("-")
