"""An MLflow registry in a folder: no server, no database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def file_registry(folder: Path) -> Iterator[Any]:
    """The module mlflow, whose runs and models are in `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        import mlflow

        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(folder.as_uri())
        yield mlflow
        mlflow.set_tracking_uri(before)
