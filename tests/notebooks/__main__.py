"""Runs every notebook in a fresh kernel and writes it with its outputs: python -m tests.notebooks.

What the JVM says on standard error when it starts is left out: it is about this machine.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat

from tests.notebooks.kernel import ROOT, executed, source_digest


def main() -> None:
    """Writes each notebook of the project anew."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(path, Path(folder))
        for cell in notebook.cells:
            cell.metadata = {}
            if cell.cell_type == "code":
                cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
                cell.metadata = {"ran": source_digest(cell.source)}
        notebook.metadata.pop("language_info", None)
        nbformat.validate(notebook)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
