"""The manifest of a bundle as JSON, and what it says of a stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from kvspark.errors import BundleError
from kvspark.model.stage.stage import Source, Stage
from kvspark.spec import TensorSpec

FORMAT = 1
MANIFEST = "manifest.json"


def encoded(value: Any) -> bytes:
    """The bytes of a manifest."""
    return json.dumps(value, sort_keys=True, indent=1).encode()


def stage_json(stage: Stage) -> dict[str, Any]:
    """What a manifest says of `stage`."""
    rows = {} if stage.rows is None else {"rows": stage.rows}
    return {
        **rows,
        "name": stage.name,
        "kind": stage.kind,
        "inputs": list(stage.inputs),
        "sources": [asdict(source) for source in stage.sources],
        "outputs": [asdict(spec) for spec in stage.outputs],
        "content": stage.content.hex(),
        "libraries": list(stage.libraries),
    }


def stage_of(value: Mapping[str, Any]) -> Stage:
    """The stage of which a manifest says `value`."""
    return Stage(
        name=value["name"],
        kind=value["kind"],
        inputs=tuple(value["inputs"]),
        sources=tuple(
            Source(spec_of(item["tensor"]), item["stage"], item["pad"]) for item in value["sources"]
        ),
        outputs=tuple(map(spec_of, value["outputs"])),
        content=bytes.fromhex(value["content"]),
        # A bundle that was written before a stage could have several names one.
        libraries=tuple(value["libraries"]) if "libraries" in value else (value["library"],),
        rows=value.get("rows"),
    )


def spec_of(value: Mapping[str, Any]) -> TensorSpec:
    """The tensor of which a manifest says `value`."""
    return TensorSpec(value["name"], value["dtype"], tuple(value["shape"]))


def checked_name(name: str) -> str:
    """`name`, a file of a bundle.

    Raises:
        BundleError: it lies outside the bundle.
    """
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise BundleError(f"the manifest names the file {name!r}, which lies outside the bundle")
    return name
