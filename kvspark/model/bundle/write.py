"""Makes a bundle of stages that write their own files."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from kvspark.errors import UsageError
from kvspark.fingerprint import file_sha256
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.bundle.files import FolderFiles
from kvspark.model.bundle.manifest import FORMAT, encoded, stage_json
from kvspark.model.stage.stage import Stage
from kvspark.spec import MicroBatch, TensorSpec


def check_micro_batch(micro_batch: object) -> None:
    """Raises UsageError: it is no `MicroBatch`, and not None."""
    if not isinstance(micro_batch, MicroBatch | None):
        raise UsageError(
            f"micro_batch: expected a kvspark.MicroBatch, for example MicroBatch(rows=32), got "
            f"{type(micro_batch).__name__}"
        )


def write_bundle(
    *,
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    micro_batch: MicroBatch | None,
    stages: Sequence[tuple[Stage, Callable[[Path], None]]],
) -> Bundle:
    """A bundle in a temporary folder that lives as long as it; each stage writes its own files.

    All of them are called in shapes of `micro_batch`; without it, each with the rows that follow from it.
    """
    check_micro_batch(micro_batch)
    root = Path(tempfile.mkdtemp(prefix="kvspark-model-"))
    files: dict[str, dict[str, Any]] = {}
    items = []
    graphs: dict[bytes, list[str]] = {}
    for stage, write in stages:
        # The calls of a siamese encoder have the files of the first.
        names = graphs.get(stage.content) if stage.kind == "graph" else None
        if names is None:
            folder = root / "stages" / stage.name
            folder.mkdir(parents=True)
            write(folder)
            names = sorted(f"stages/{stage.name}/{path.name}" for path in folder.iterdir())
            graphs[stage.content] = names
            files |= {file: _listed(root / file) for file in names}
        own = stage if micro_batch is None else replace(stage, rows=None)
        items.append({**stage_json(own), "files": names})
    manifest = {
        "format": FORMAT,
        "name": name,
        "inputs": [asdict(spec) for spec in inputs],
        "outputs": [asdict(spec) for spec in outputs],
        "micro_batch": asdict(micro_batch or MicroBatch()),
        "stages": items,
        "files": files,
    }
    written = FolderFiles(root)
    weakref.finalize(written, shutil.rmtree, root, ignore_errors=True)
    return Bundle(encoded(manifest), written)


def _listed(path: Path) -> dict[str, Any]:
    """What a manifest says of a file."""
    return {"sha256": file_sha256(path), "size_bytes": path.stat().st_size}


def write_one_stage(
    part: tuple[Stage, Callable[[Path], None]], *, name: str, micro_batch: MicroBatch | None
) -> Bundle:
    """The bundle of a model that is one opaque stage."""
    stage, _ = part
    return write_bundle(
        name=name,
        inputs=[source.tensor for source in stage.sources],
        outputs=stage.outputs,
        micro_batch=micro_batch,
        stages=[part],
    )
