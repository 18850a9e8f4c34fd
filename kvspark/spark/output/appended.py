"""Adding a run's rows to a published table: the new output is the old one's files and the run's own.

The old files are linked into the staged folder, which then takes the output's place in one step as
every output does: readers see the table with the new rows or without, whatever dies, and a rollback
takes them away again. What each run added is listed, by run id, so that a run that is repeated
replaces its own files and no others:

    _kvspark/runs/<run id>.json      {"run_id": ..., "files": [...]}
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq

from kvspark.errors import OutputError
from kvspark.fingerprint import digest
from kvspark.spark.output.manifest import read_manifest
from kvspark.spark.output.occupant import report_in
from kvspark.spark.runs.run_report import REPORT_FOLDER
from kvspark.spark.tables.footers import Footer, read_footers

_RUNS = f"{REPORT_FOLDER}/runs"
_QUARANTINE = f"{REPORT_FOLDER}/quarantine/"


def add_to(published: Path, staged: Path, run_id: str) -> int:
    """Makes `staged`, the files of run `run_id`, the table in `published` with these; how many files came along.

    Guarantees: `published` is not touched.

    Raises:
        OutputError: the two have other columns, or `published` has no list of its files.
    """
    own = _files(staged)
    for name in [name for name in own if name.startswith(_QUARANTINE)]:
        own.remove(name)
        own.append(_renamed(staged, name, run_id))
    by_run, unlisted = _by_run(published)
    kept = [name for run, names in by_run.items() if run != run_id for name in names]
    data = [name for name in kept if not name.startswith(REPORT_FOLDER)]
    with_rows = _with_rows(published, data)
    _check_columns(
        published, with_rows, staged, [n for n in own if not n.startswith(REPORT_FOLDER)]
    )
    for name in kept:
        if name not in data or name in with_rows:
            _link(published / name, staged / name)
    if with_rows:
        own = [name for name in own if not _is_dropped(staged, name)]
    _write_list(staged, run_id, own)
    if unlisted is not None and unlisted != run_id:
        _write_list(
            staged, unlisted, [name for name in by_run[unlisted] if (staged / name).exists()]
        )
    return len(with_rows)


def _by_run(published: Path) -> tuple[dict[str, list[str]], str | None]:
    """The files in `published` by the run that added them, with the lists that say so; which run has no list."""
    if not published.exists():
        return {}, None
    report, manifest = report_in(published), read_manifest(published)
    if report is None or manifest is None:
        raise OutputError(
            f"output path {published}: there is no list of its files ({REPORT_FOLDER}/files.json), so nothing can be "
            "added to it; nothing was published, run it once with output.mode: replace"
        )
    listed: dict[str, list[str]] = {}
    for path in sorted((published / _RUNS).glob("*.json")):
        value = json.loads(path.read_text(encoding="utf-8"))
        listed[str(value["run_id"])] = [*value["files"], path.relative_to(published).as_posix()]
    known = {name for names in listed.values() for name in names}
    # Files of a run that replaced the whole output are those that nobody added.
    rest = [
        name
        for name in manifest.files
        if name not in known
        and (not name.startswith(REPORT_FOLDER) or name.startswith(_QUARANTINE))
    ]
    if not rest:
        return listed, None
    last = str(report["run_id"])
    listed.setdefault(last, []).extend(rest)
    return listed, last


def _files(folder: Path) -> list[str]:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")]
    return sorted(name for name in names if not Path(name).name.startswith("."))


def _renamed(staged: Path, name: str, run_id: str) -> str:
    """A file of bad rows under a name that no other run gives it."""
    path = staged / name
    mark = digest("kvspark.append", run_id).hex()[:12]
    made = path.with_name(f"{path.stem}-{mark}{path.suffix}")
    path.rename(made)
    return made.relative_to(staged).as_posix()


def _with_rows(folder: Path, names: list[str]) -> set[str]:
    footers = read_footers([folder / name for name in names])
    return {name for name, footer in zip(names, footers, strict=True) if footer.rows}


def _is_dropped(staged: Path, name: str) -> bool:
    """True for a file of data without rows, which is deleted: others say what the columns are."""
    if name.startswith(REPORT_FOLDER) or pq.read_metadata(staged / name).num_rows:
        return False
    (staged / name).unlink()
    return True


def _check_columns(published: Path, old: set[str], staged: Path, new: list[str]) -> None:
    for name in sorted(old)[:1]:
        (before,) = read_footers([published / name])
        for after in read_footers([staged / each for each in new]):
            if after.rows and _columns(before, published) != _columns(after, staged):
                raise OutputError(
                    f"output path {published}: {_difference(before, published, after, staged)}; nothing was published, "
                    "give both the same, or publish all of it with output.mode: replace"
                )


def _columns(footer: Footer, folder: Path) -> tuple[dict[str, str], list[str]]:
    below = footer.path.parent.relative_to(folder).parts
    return dict(footer.columns), [part.partition("=")[0] for part in below]


def _difference(before: Footer, published: Path, after: Footer, staged: Path) -> str:
    """How the columns `before` and `after` differ: the first that is new, gone or of another type, or how they lie."""
    old, folders = _columns(before, published)
    new, other_folders = _columns(after, staged)
    if folders != other_folders:
        return (
            f"it is partitioned by {', '.join(folders) or 'nothing'}, and this run's rows by "
            f"{', '.join(other_folders) or 'nothing'}"
        )
    for name in {**old, **new}:
        if old.get(name) != new.get(name):
            return (
                f"its column {name!r} is {old.get(name) or 'missing'}, and {new.get(name) or 'missing'} in this run's "
                "rows"
            )
    return f"its columns are {', '.join(old)}, and this run's {', '.join(new)}"


def _link(old: Path, new: Path) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(old, new)
    except OSError:  # a file system without links
        shutil.copy2(old, new)


def _write_list(staged: Path, run_id: str, files: list[str]) -> None:
    (staged / _RUNS).mkdir(parents=True, exist_ok=True)
    name = f"{digest('kvspark.append', run_id).hex()[:32]}.json"
    text = json.dumps({"run_id": run_id, "files": sorted(files)}, indent=1)
    (staged / _RUNS / name).write_text(f"{text}\n", encoding="utf-8")
