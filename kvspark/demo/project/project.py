"""A project of one's own to start from: a conf, a small table, a model script, a job and two schedules."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from string import Template

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from kvspark.demo.nights.night import shipped_nights
from kvspark.errors import OutputError, UsageError

_TEXTS = Path(__file__).parent / "project_files"

_FILES = {
    "model.py": "model.py.in",
    "score.py": "score.py.in",
    "conf/score.yaml": "score.yaml.in",
    "crontab": "crontab.in",
    "dag.py": "dag.py.in",
    "README.md": "README.md.in",
}
_TABLE = "data/glosses.parquet"
ROWS = 2_000


def make_project(folder: Path) -> list[str]:
    """Makes a project in `folder` and returns its files, relative to it.

    Guarantees: no file that is there is written to; where one is, nothing is written at all.

    Raises:
        UsageError: a file of the project is there already.
        OutputError: the folder cannot be written.
    """
    home = folder.absolute()
    names = [*_FILES, _TABLE]
    present = [name for name in names if (home / name).exists()]
    if present:
        raise UsageError(
            f"{folder / present[0]} is there already, and nothing is overwritten; nothing was written, name "
            "another folder, or remove it"
        )
    try:
        for name, source in _FILES.items():
            _write(home / name, _filled(source, home))
        (home / "data").mkdir(exist_ok=True)
        with (home / _TABLE).open("xb") as file:
            pq.write_table(_table(), file)
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder} cannot be written: {error.strerror}; name another folder"
        ) from error
    return names


def _filled(source: str, home: Path) -> str:
    text = (_TEXTS / source).read_text(encoding="utf-8")
    kind = Path(source).suffixes[0] if source != "crontab.in" else ""
    return Template(text).substitute(_VALUES[kind](home))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)


def _in_python(home: Path) -> dict[str, str]:
    return {"name": repr(home.name), "home": repr(str(home))}


def _in_yaml(home: Path) -> dict[str, str]:
    # JSON's texts are YAML's, whatever is in them.
    return {"name": json.dumps(home.name)}


def _in_crontab(home: Path) -> dict[str, str]:
    values = {
        "home": shlex.quote(str(home)),
        "crontab": shlex.quote(str(home / "crontab")),
        "kvspark": f"{shlex.quote(sys.executable)} -m kvspark.cli",
    }
    # cron ends a command at a bare percent sign.
    return {name: value.replace("%", "\\%") for name, value in values.items()}


def _in_text(home: Path) -> dict[str, str]:
    return {"title": home.name}


_VALUES = {".py": _in_python, ".yaml": _in_yaml, "": _in_crontab, ".md": _in_text}


def _table() -> pa.Table:
    """Glosses with their class, and what can be counted in them, a column each and all in one."""
    night = shipped_nights()[0].read().slice(0, ROWS)
    text = night["text"]
    words = pc.split_pattern(text, " ")
    counts = {
        "characters": pc.utf8_length(text),
        "words": pc.list_value_length(words),
        "longest_word": pa.array([max(map(len, row)) for row in words.to_pylist()]),
        "commas": pc.count_substring(text, ","),
        "semicolons": pc.count_substring(text, ";"),
    }
    columns = {name: pc.cast(values, pa.float32()) for name, values in counts.items()}
    rows = zip(*(column.to_pylist() for column in columns.values()), strict=True)
    features = pa.array([list(row) for row in rows], pa.list_(pa.float32()))
    return pa.table(
        {"id": night["id"], "text": text, "label": night["label"], **columns, "features": features}
    )
