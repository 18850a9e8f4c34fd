"""A copy of a conf file with other values, which says on top what was changed and why."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from kvspark.config.reading.document import Trail, parse_document, read_document
from kvspark.config.reading.relative import moved
from kvspark.config.writing.as_sets import as_sets
from kvspark.config.writing.edited import Plain, edited
from kvspark.errors import OutputError, UsageError

NOTE = "tuned"


def tuned_path(conf: Path) -> Path:
    """Where the copy of `conf` goes if nobody says: `score.yaml` becomes `score.tuned.yaml`."""
    return conf.with_name(f"{conf.stem}.tuned{conf.suffix or '.yaml'}")


def check_free(path: Path, conf: Path, *, is_forced: bool) -> None:
    """Does nothing if a copy of `conf` may be written to `path`.

    Raises:
        OutputError: a file is there and `is_forced` is False, or its folder is not.
        UsageError: it is the conf itself, or a folder.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file")
    if path.exists() and path.samefile(conf):
        raise UsageError(f"{path} is the conf itself, which is never replaced; name another file")
    if path.exists() and not is_forced:
        raise OutputError(f"{path} is there already; add --force to replace it, or name another")
    if not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: its folder is not there, or not writable")


def write_tuned(
    conf: Path, path: Path, changes: Mapping[Trail, Plain], said: Sequence[str]
) -> None:
    """Writes `conf` with `changes` to `path`, `said` as comments on top; comments and all other values stay.

    Relative paths are written anew where `path` is in another folder. The file appears in one step.

    Raises:
        UsageError: the file is of a form that cannot be changed in place; says what to write by hand.
        OutputError: it cannot be written.
    """
    document = read_document(conf)
    text = conf.read_text(encoding="utf-8")
    paths = moved(document.value, conf.parent, path.parent)
    try:
        made = edited(edited(text, paths), changes, note=NOTE)
        is_right = parse_document(made, str(path)).value == changed_tree(
            document.value, {**paths, **changes}
        )
    except UsageError:
        is_right = False
    if not is_right:
        raise _by_hand(conf, changes)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text("".join(f"# {line}\n" for line in said) + made, encoding="utf-8")
        part.replace(path)
    except OSError as exc:
        raise OutputError(f"{path} cannot be written ({exc.strerror})") from None
    finally:
        part.unlink(missing_ok=True)


def changed_tree(tree: Any, changes: Mapping[Trail, Plain]) -> Any:
    """A copy of the plain values `tree` with `changes`."""
    made: Any = deepcopy(tree) or {}
    for trail, value in changes.items():
        node = made
        for depth, key in enumerate(trail[:-1], start=1):
            if isinstance(node, list):
                node = node[int(key)]
                continue
            child = node.get(key)
            if isinstance(child, str) and trail[:depth] == ("cache",):
                child = {"url": child}
            node[key] = child = {} if child is None else child
            node = child
        if isinstance(node, list):
            node[int(trail[-1])] = value
        else:
            node[trail[-1]] = value
    return made


def _by_hand(conf: Path, changes: Mapping[Trail, Plain]) -> UsageError:
    return UsageError(
        f"{conf} is written in a way that cannot be changed in place (an anchor?); nothing was written, set by hand "
        f"{', '.join(as_sets(changes))}"
    )
