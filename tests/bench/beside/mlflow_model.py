"""The plain model as MLflow's `pyfunc` flavor takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import pandas as pd
from mlflow.pyfunc.model import PythonModel

from tests.bench.beside.plain import predictor
from tests.bench.beside.workload import read_workload, stacked


@final
class PlainModel(PythonModel):
    """Scores the columns of a pandas frame."""

    def __init__(self, folder: str, head: int) -> None:
        self.folder, self.head = folder, head

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:
        """The outputs as one array: a column of numbers, or a column for each item."""
        work = read_workload(Path(self.folder))
        given = {
            name: stacked(model_input[name].to_numpy(), width)
            for name, width in zip(work.columns, work.widths, strict=True)
        }
        return predictor(self.folder, self.head, 1)(given)
