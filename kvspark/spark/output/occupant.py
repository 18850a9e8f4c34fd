"""What lies where an output should go: a run's own output, or something that is not ours.

Only an output that a run of the same job published to the same path, and to which nobody has added
a file, is ours. Everything else is described in words for the person who gave the path.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, final

from kvspark.spark.output.manifest import read_manifest
from kvspark.spark.runs.run_report import FILE_NAME, FORMAT, REPORT_FOLDER
from kvspark.spark.tables.table_format import format_at
from kvspark.wording import count_of

_SHOWN = 3
_MOST_NAMES = 1000
_TABLE_FILES = (".parquet", ".orc", ".avro", ".csv", ".json", ".csv.gz", ".json.gz")


@final
@dataclass(frozen=True, slots=True)
class Occupant:
    """A folder that exists."""

    looks: str
    """What it is, in words; empty for an empty folder."""
    is_ours: bool = False

    @property
    def is_empty(self) -> bool:
        """True if there is nothing in it that could be lost."""
        return not self.looks


def report_in(folder: Path) -> Mapping[str, Any] | None:
    """The run report in `folder`; None if there is none that a run can have written."""
    try:
        value = json.loads((folder / REPORT_FOLDER / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    texts = ("run_id", "name", "model", "fingerprint", "output", "started_at")
    counts = ("rows_in", "rows_out", "output_files", "output_bytes")
    is_one = (
        isinstance(value, dict)
        and value.get("format") == FORMAT
        and all(isinstance(value.get(key), str) for key in texts)
        and all(type(value.get(key)) is int for key in counts)
        and isinstance(value.get("stages"), dict)
    )
    return value if is_one else None


def occupant_of(folder: Path, *, target: Path, owner: str | None) -> Occupant:
    """What `folder` is to the job `owner` (any job without it), whose output goes to `target`."""
    if next(folder.iterdir(), None) is None:
        return Occupant("")
    found = format_at(folder)
    if found is not None:
        return Occupant(str(found))
    report = report_in(folder)
    if report is None:
        return Occupant(_looks(folder))
    if owner is not None and report["name"] != owner:
        return Occupant(f"the output of another job (its report says run.name {report['name']})")
    if not _is_at(report["output"], target):
        return Occupant(
            f"an output that was published as {report['output']} and moved or copied here"
        )
    added = files_added(folder, report)
    if added:
        return Occupant(f"an output of this job with files that no run wrote ({_named(added)})")
    return Occupant("the output of this job", is_ours=True)


def files_added(folder: Path, report: Mapping[str, Any]) -> list[str]:
    """The files in `folder` that the run of `report` did not publish."""
    manifest = read_manifest(folder)
    if manifest is not None:
        return manifest.added(folder)
    # Published before there were lists of files: their number and their bytes must do.
    names = [item.name for item in folder.iterdir()]
    known = (REPORT_FOLDER, "_SUCCESS", "_metadata", "_common_metadata")
    added = [n for n in names if n not in known and not n.startswith(("part-", ".part-", "._"))]
    parts = [path for path in folder.rglob("part-*") if REPORT_FOLDER not in path.parts]
    counted = (len(parts), sum(path.stat().st_size for path in parts))
    if not added and counted != (report["output_files"], report["output_bytes"]):
        added = [f"{counted[0]} part files, and its report counts {report['output_files']}"]
    return sorted(added)


def _is_at(published: str, target: Path) -> bool:
    # Also one folder by two names: a file system that does not tell cases apart, or a second mount.
    try:
        return Path(published) == target or Path(published).samefile(target)
    except OSError:
        return False


def _looks(folder: Path) -> str:
    """What a folder without a report of ours is, by the names in it."""
    items = sorted(islice(folder.iterdir(), _MOST_NAMES))
    names = [item.name for item in items]
    folders = [item for item in items if item.is_dir()]
    hive = [item.name for item in folders if "=" in item.name]
    if hive:
        return f"a table in Hive folders ({_named(hive)})"
    kinds = Counter(end for name in names for end in _TABLE_FILES if name.endswith(end))
    if kinds:
        (end, count), *_ = kinds.most_common(1)
        wrote = "a table that Spark wrote" if "_SUCCESS" in names else "a table"
        return f"{wrote} ({count_of(count, f'{end} file')})"
    if "_SUCCESS" in names:
        return "a table that Spark wrote (_SUCCESS)"
    inner = next((text for item in folders if (text := _inner(item))), None)
    return inner or f"a folder with files of somebody ({_named(names)})"


def _inner(folder: Path) -> str | None:
    """What `folder` says of the folder that it is in."""
    try:
        found = format_at(folder)
        if found is not None:
            return f"a folder that holds {found} in {folder.name}"
        if report_in(folder) is not None:
            return f"a folder that holds an output of kvspark in {folder.name}"
        if any(name.suffix == ".parquet" or "=" in name.name for name in folder.iterdir()):
            return f"a folder that holds a table in {folder.name}"
    except OSError:
        return None
    return None


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
