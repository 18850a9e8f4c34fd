"""A notebook run from its first cell to its last."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import nbformat
from nbclient import NotebookClient

from kvspark.fingerprint import digest

ROOT = Path(__file__).parents[2]


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook at `path` after a run in `folder`, so that it can lean on nothing but the package."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    with mock.patch.dict(os.environ, {"PYTHONPATH": str(ROOT)}):
        NotebookClient(notebook, timeout=300, resources=resources).execute()
    return notebook


def source_digest(source: str) -> str:
    """What a cell's outputs are kept with: they are of this source and of no other."""
    return digest("kvspark.cell", source).hex()[:12]
