"""The list of files that a run publishes: `_kvspark/files.json` inside the output.

It tells an output from one to which somebody has added files, and a staged attempt that was never
published from the output whose place it should have taken.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from kvspark.spark.runs.run_report import REPORT_FOLDER

MANIFEST_NAME = "files.json"
_FORMAT = 1
# Of these nobody misses a row: checksums, marks and summaries that readers and writers leave.
_WITHOUT_ROWS = re.compile(r"(.*/)?(\.[^/]+\.crc|_SUCCESS|_metadata|_common_metadata)")


@final
@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of one published attempt."""

    attempt: str
    """The name under which it was staged; no two attempts have the same."""
    files: Mapping[str, int]
    """Bytes by path below the output."""

    def added(self, folder: Path) -> list[str]:
        """The files and links in `folder` that are not the attempt's, or no longer; sorted."""
        return sorted(name for name, size in _sizes(folder).items() if self.files.get(name) != size)

    def lost(self, folder: Path) -> list[str]:
        """The attempt's files that `folder` no longer has as they were; sorted."""
        there = _sizes(folder)
        return sorted(name for name, size in self.files.items() if there.get(name) != size)


def write_manifest(folder: Path) -> None:
    """Lists what is in `folder`, whose name is the attempt's."""
    value = {"format": _FORMAT, "attempt": folder.name, "files": _sizes(folder)}
    (folder / REPORT_FOLDER).mkdir(exist_ok=True)
    text = json.dumps(value, indent=1)
    (folder / REPORT_FOLDER / MANIFEST_NAME).write_text(f"{text}\n", encoding="utf-8")


def read_manifest(folder: Path) -> Manifest | None:
    """The list in `folder`; None if there is none that can be read."""
    try:
        text = (folder / REPORT_FOLDER / MANIFEST_NAME).read_text(encoding="utf-8")
        value = json.loads(text)
        files = {str(name): int(size) for name, size in value["files"].items()}
        return Manifest(str(value["attempt"]), files) if value["format"] == _FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes by path of all that may hold rows; -1 for a link, which is never a run's."""
    sizes = {}
    for parent, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(parent, name)
            below = path.relative_to(folder).as_posix()
            if path.is_symlink():
                sizes[below] = -1
            elif name in names and not _skipped(below):
                sizes[below] = path.stat().st_size
    return dict(sorted(sizes.items()))


def _skipped(below: str) -> bool:
    is_itself = below == f"{REPORT_FOLDER}/{MANIFEST_NAME}"
    return is_itself or _WITHOUT_ROWS.fullmatch(below) is not None
