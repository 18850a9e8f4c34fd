"""Paths that no output can have, whatever lies there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from kvspark.errors import OutputError, UsageError
from kvspark.spark.output.occupant import report_in
from kvspark.spark.tables.table_format import first_format

_LONGEST = 255 - len(".kvspark-")
"""Bytes of a name, of which file systems take 255."""


def refuse_overlap(path: Path, inputs: Sequence[Path], needed: Sequence[Path] = ()) -> None:
    """Does nothing if `path` is apart from `inputs` and holds none of `needed`.

    By what the names stand for: links, second mounts and file systems that do not tell cases apart.

    Raises:
        UsageError: it is not.
    """
    for item in inputs:
        if _holds(path, item) or _holds(item, path):
            raise UsageError(
                f"output path {path} and input path {item} overlap: publishing would replace the "
                "input, or the next run would read its own output; choose another output path"
            )
    for item in (*needed, *_always_needed()):
        if _holds(path, item):
            raise UsageError(
                f"output path {path} holds {item}, which would be moved away with it; choose another "
                "output path"
            )


def refuse_kind(path: Path) -> None:
    """Does nothing if `path` does not exist or is a folder that can be replaced.

    Raises:
        OutputError: it is a file, a symlink or a mount point.
    """
    if path.is_symlink():
        kind = "a symlink; name the folder that it stands for"
    elif path.exists() and not path.is_dir():
        kind = "a file; name a folder, or a path that does not exist"
    elif path.is_mount():
        kind = "a mount point, which cannot be replaced in one step; name a folder inside it"
    else:
        return
    raise OutputError(f"output path {path} is {kind}")


def refuse_name(path: Path) -> None:
    """Does nothing if the folder beside `path`, of a longer name, can be made too.

    Raises:
        UsageError: the name is too long.
    """
    name = os.fsencode(path.name)
    if len(name) > _LONGEST:
        raise UsageError(
            f"output path {path.parent}/{path.name[:20]}... has a name of {len(name)} bytes; {_LONGEST} are the most"
        )


def refuse_surrounding(path: Path) -> None:
    """Does nothing if `path` lies in no table of another format and in no output of kvspark.

    Raises:
        OutputError: it does: that table's own upkeep would delete the output, or take it for its own.
    """
    found = first_format(path.parents)
    inside = None if found is None else f"{found} at {found.root}"
    if inside is None:
        output = next((folder for folder in path.parents if report_in(folder)), None)
        inside = None if output is None else f"the output of a job at {output}"
    if inside is None and any(folder.name.startswith(".kvspark-") for folder in path.parents):
        inside = "a folder in which a job keeps its old outputs"
    if inside is not None:
        raise OutputError(
            f"output path {path} lies inside {inside}, whose files would be mixed with the output's; "
            "nothing was written, choose another output path"
        )


def refuse_parent(path: Path) -> None:
    """Does nothing if this user may make `path`.

    Raises:
        OutputError: the folder in which it would be is none, or cannot be written to.
    """
    there = next(folder for folder in path.parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(
            f"output path {path}: {there} is not a folder that this user may write to; "
            "choose another output path or change its permissions"
        )


def _always_needed() -> list[Path]:
    found = []
    for place in (Path.cwd, Path.home):
        with contextlib.suppress(OSError, RuntimeError):  # it was removed, or the user has none
            found.append(place())
    return found


def _holds(outer: Path, inner: Path) -> bool:
    """True if `inner` is `outer` or lies in it."""
    places = dict.fromkeys((inner, *inner.parents, inner.resolve(), *inner.resolve().parents))
    if outer in places:
        return True
    return outer.exists() and any(place.exists() and place.samefile(outer) for place in places)
