"""A model and the tables of its nights, as jobs find them in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa

from kvspark.infer.model import Model
from tests.bench.beside.workload import write_table

Columns = Mapping[str, pa.Array]


@final
@dataclass(frozen=True, slots=True)
class Workload:
    """Nights of one output."""

    name: str
    rows: int
    few: int
    """Rows of a quick run: no fewer than those from which a job measures its plan."""
    model: Callable[[int], Model]
    """The model of a night, by the number of its head."""
    tables: Callable[[int], Sequence[Columns]]
    """The inputs of the tables that nights have, of so many rows each."""
    nights: tuple[tuple[int, int], ...] = ((0, 0), (0, 0), (0, 0))
    """The table of each night and its head."""

    def write(self, folder: Path, rows: int) -> list[tuple[Path, Path]]:
        """Leaves tables and models in `folder`; the paths of both, for each night."""
        for number, columns in enumerate(self.tables(rows)):
            ids = np.arange(len(next(iter(columns.values()))))
            write_table(pa.table({"id": ids, **columns}), folder / f"{number}.parquet")
        for head in {head for _, head in self.nights}:
            self.model(head).save(folder / f"model-{head}")
        return [(folder / f"{t}.parquet", folder / f"model-{h}") for t, h in self.nights]
