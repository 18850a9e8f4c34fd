"""Relative paths of a conf file: they begin in the file's folder, wherever the command is started.

What the environment or `--set` says is a person's word on a command line, and begins in the working
directory, as with every other command.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kvspark.errors import UsageError

Trail = tuple[str, ...]

_READ: tuple[Trail, ...] = (
    ("input", "paths"),
    ("model", "path"),
    ("cache", "password_file"),
    ("cache", "secret_file"),
    ("cache", "tls_ca_file"),
    ("cache", "sealing", "key_file"),
)
_WRITTEN: tuple[Trail, ...] = (("output", "path"),)
_URLS: tuple[Trail, ...] = (("cache",), ("cache", "url"))
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_EMBEDDED = re.compile(r"embedded:(?![/~])(.+)", re.DOTALL)
_REPORT = "_kvspark/run.json"


def based_on(folder: Path, tree: dict[str, Any], is_written: Callable[[Trail], bool]) -> None:
    """Makes the relative paths of `tree` begin in `folder`, where `is_written` in the conf file.

    Raises:
        UsageError: a path is there only from the working directory; says how to write it.
    """
    for key in (*_READ, *_WRITTEN):
        for trail, holder, place in _texts(tree, key):
            if is_written(trail) and _is_relative(holder[place]):
                told = ".".join(key)
                holder[place] = _based(folder, holder[place], told, is_read=key in _READ)
    for key in _URLS:
        for trail, holder, place in _texts(tree, key):
            found = _EMBEDDED.fullmatch(holder[place])
            if found and is_written(trail):
                holder[place] = f"embedded:{_joined(folder, found.group(1))}"


def moved(tree: Any, old: Path, new: Path) -> dict[Trail, str]:
    """What the relative paths of `tree` are called in a conf file of the folder `new` instead of `old`."""
    made: dict[Trail, str] = {}
    if _joined(old, "") == _joined(new, ""):
        return made
    for key in (*_READ, *_WRITTEN):
        for trail, holder, place in _texts(tree, key):
            if _is_relative(holder[place]):
                made[trail] = os.path.relpath(_joined(old, holder[place]), new.absolute())
    for key in _URLS:
        for trail, holder, place in _texts(tree, key):
            found = _EMBEDDED.fullmatch(holder[place])
            if found:
                path = os.path.relpath(_joined(old, found.group(1)), new.absolute())
                made[trail] = f"embedded:{path}"
    return made


def _texts(tree: Any, key: Trail) -> Iterator[tuple[Trail, Any, Any]]:
    """The texts at `key`, of a list each of its own: where they are written and where they stand."""
    holder: Any = tree
    for part in key[:-1]:
        holder = holder.get(part) if isinstance(holder, Mapping) else None
    value = holder.get(key[-1]) if isinstance(holder, Mapping) else None
    if isinstance(value, str):
        yield key, holder, key[-1]
    elif isinstance(value, list):
        for place, item in enumerate(value):
            if isinstance(item, str):
                yield (*key, str(place)), value, place


def _is_relative(text: str) -> bool:
    return bool(text.strip()) and not text.startswith(("/", "~")) and not _SCHEME.match(text)


def _joined(folder: Path, text: str) -> str:
    return os.path.normpath(folder.absolute() / text)


def _based(folder: Path, text: str, key: str, *, is_read: bool) -> str:
    made, here = _joined(folder, text), _joined(Path(), text)
    if made != here and not _is_there(made) and "{{" not in text:
        is_only_here = _is_there(here) if is_read else Path(here, _REPORT).exists()
        if is_only_here:
            raise UsageError(
                f"{key}: {text} is in the working directory and not in {folder.absolute()}; relative paths are "
                f"relative to the conf's folder: write {os.path.relpath(here, folder)}"
            )
    return made


def _is_there(path: str) -> bool:
    return Path(path).exists() or any(Path("/").glob(path.lstrip("/")))
