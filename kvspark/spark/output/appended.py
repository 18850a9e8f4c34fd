"""Adding a run's rows to a published table: the new output is the old one's files and the run's own.

Or those of the old one's files that lie in other partitions. The old files are linked into the staged folder, which then takes the output's place in one step as
every output does: readers see the table with the new rows or without, whatever dies, and a rollback
takes them away again. What each run added is listed, by run id, so that a run that is repeated
replaces its own files and no others:

    _kvspark/runs/<run id>.json      {"run_id": ..., "files": [...]}
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

import pyarrow.parquet as pq
from pyspark.sql.types import DataType, NullType, StructType

from kvspark.errors import OutputError
from kvspark.fingerprint import digest
from kvspark.spark.output.manifest import read_manifest
from kvspark.spark.output.occupant import report_in
from kvspark.spark.output.output_check import plain_type
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
    return _joined(published, staged, run_id, lambda run, _: run != run_id)


def replace_partitions(published: Path, staged: Path, run_id: str) -> int:
    """As `add_to`, but what `published` has in the folders of which `staged` has files is left out, and no other row is."""
    touched = {PurePosixPath(name).parent for name in _files(staged)}

    def is_kept(run: str, name: str) -> bool:
        if name.startswith(REPORT_FOLDER):
            return run != run_id
        return PurePosixPath(name).parent not in touched

    return _joined(published, staged, run_id, is_kept)


def _joined(published: Path, staged: Path, run_id: str, is_kept: Callable[[str, str], bool]) -> int:
    own = _files(staged)
    for name in [name for name in own if name.startswith(_QUARANTINE)]:
        own.remove(name)
        own.append(_renamed(staged, name, run_id))
    by_run, unlisted = _by_run(published)
    kept = [name for run, names in by_run.items() for name in names if is_kept(run, name)]
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
    before = [name for name in by_run.get(run_id, ()) if name in with_rows]
    _write_list(staged, run_id, [*own, *before])
    if unlisted is not None and unlisted != run_id:
        _write_list(
            staged, unlisted, [name for name in by_run[unlisted] if (staged / name).exists()]
        )
    return len(with_rows)


def check_added(
    published: Path, schema: StructType, partition_by: Sequence[str], run_id: str
) -> None:
    """Does nothing if rows of `schema` can be added to `published`, as far as that is known before they are scored.

    A type of `schema` that nobody knows yet (void) is not looked at.

    Raises:
        OutputError: as `add_to`.
    """
    by_run, _ = _by_run(published)
    names = [name for run, names in by_run.items() if run != run_id for name in names]
    data = [name for name in names if not name.startswith(REPORT_FOLDER)]
    with_rows = sorted(_with_rows(published, data))
    if not with_rows:
        return
    _check_folder_types(published, schema, partition_by)
    (footer,) = read_footers([published / with_rows[0]])
    if (
        footer.spark_schema is None
    ):  # no run of ours wrote it; its Parquet types are compared at the end
        return
    there = StructType.fromJson(json.loads(footer.spark_schema))
    before = {field.name: _type(field.dataType) for field in there.fields}
    after = {f.name: _type(f.dataType) for f in schema.fields if f.name not in partition_by}
    unknown = [name for name, kind in after.items() if kind == _type(NullType())]
    known = {
        name: before.get(name, kind) if name in unknown else kind for name, kind in after.items()
    }
    folders = _folders(footer, published)
    if (before, folders) != (known, list(partition_by)):
        raise _other(published, _difference(before, folders, known, list(partition_by)))


def _check_folder_types(published: Path, schema: StructType, partition_by: Sequence[str]) -> None:
    """Raises OutputError if a column of folder names had another type before: readers guess one for all of them."""
    before = (report_in(published) or {}).get("partition_types", {})
    after = {n: _type(schema[n].dataType) for n in partition_by if schema[n].dataType != NullType()}
    for name, kind in after.items():
        if before.get(name, kind) != kind:
            raise _other(
                published,
                f"its folders are named by column {name!r} as {before[name]}, which is {kind} in this run's rows",
            )


def int96_column(published: Path) -> str | None:
    """A column of the table in `published` whose timestamps are INT96, None if it has none; told of one file.

    Raises:
        OutputError: as `add_to`, for a table whose files are not listed.
    """
    by_run, _ = _by_run(published)
    names = [name for files in by_run.values() for name in files]
    data = [name for name in names if not name.startswith(REPORT_FOLDER)]
    for name in sorted(_with_rows(published, data))[:1]:
        (footer,) = read_footers([published / name])
        return next((column for column, kind in footer.columns.items() if "INT96" in kind), None)
    return None


def _type(kind: DataType) -> str:
    return plain_type(kind).simpleString()


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
    lost = manifest.lost(published)
    if lost:
        raise OutputError(
            f"output path {published}: {lost[0]} of an earlier run is gone or was changed, so its rows would be missing; "
            "nothing was published, see kvspark rollback --list, or run once with output.mode: replace"
        )
    listed: dict[str, list[str]] = {}
    for path in sorted((published / _RUNS).glob("*.json")):
        value = json.loads(path.read_text(encoding="utf-8"))
        # A file without rows is listed by the run that wrote it, and left out by the next one that adds some.
        own = [name for name in value["files"] if name in manifest.files]
        listed[str(value["run_id"])] = [*own, path.relative_to(published).as_posix()]
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
                raise _other(
                    published, _difference(*_columns(before, published), *_columns(after, staged))
                )


def _other(published: Path, difference: str) -> OutputError:
    return OutputError(
        f"output path {published}: {difference}; nothing was published, give both the same, or publish all of it with "
        "output.mode: replace"
    )


def _columns(footer: Footer, folder: Path) -> tuple[dict[str, str], list[str]]:
    return dict(footer.columns), _folders(footer, folder)


def _folders(footer: Footer, folder: Path) -> list[str]:
    """The columns of which the folders below `folder` that lead to the file are named."""
    below = Path(footer.name).parent.relative_to(folder).parts
    return [unquote(part.partition("=")[0]) for part in below]


def _difference(
    old: Mapping[str, str], folders: list[str], new: Mapping[str, str], other_folders: list[str]
) -> str:
    """How the columns `old` and `new` differ: the first that is new, gone or of another type, or how they lie."""
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
