"""Paths of POSIX file systems, as a conf has them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from kvspark.errors import UsageError

_SHOWN = 80
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", re.DOTALL)


def local_path(path: str, *, what: str) -> Path:
    """The absolute path for a plain path or a `file:` URL, without links in its parents.

    Raises:
        UsageError: the path has another scheme or host, is empty, no path, or the root.
    """
    plain = _without_scheme(path, what=what)
    if not plain.strip():
        raise UsageError(f"{what} is empty; give the path of a folder")
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in plain):
        raise UsageError(
            f"{what} {plain!r} has a character that no folder's name should have; give another"
        )
    try:
        absolute = Path(os.path.normpath(Path(plain).expanduser().absolute()))
        parent = absolute.parent.resolve()
        (parent / absolute.name).is_symlink()  # asks the file system whether it takes such a name
    except (OSError, RuntimeError) as exc:
        why = getattr(exc, "strerror", None) or str(exc).rstrip(".")
        raise UsageError(f"{what} {path[:_SHOWN]} names no place ({why}); give another") from None
    if absolute == absolute.parent:
        raise UsageError(f"{what} {path} is the root of the file system; give the path of a folder")
    return parent / absolute.name


def hadoop_cannot_open(path: str) -> bool:
    """True if Hadoop, and so Spark, opens no file of this name: it takes what is before a colon for the scheme of a URL.

    It looks for `.NAME.crc` beside the file. Names of folders may have one.
    """
    return ":" in path.rpartition("/")[2]


def _without_scheme(path: str, *, what: str) -> str:
    match = _SCHEME.fullmatch(path)
    # A colon after the first slash is part of a name, as in /data/at=10:30.
    if match is None:
        return path
    scheme, rest = match.groups()
    if scheme.lower() == "file":
        authority = re.match(r"//([^/]*)(.*)", rest, re.DOTALL)
        if authority is not None and authority.group(1).lower() not in ("", "localhost"):
            raise UsageError(
                f"{what} {path} names the host {authority.group(1)}; write file:/// with three slashes, and the path "
                "where that host's folder is mounted here"
            )
        return unquote(rest if authority is None else authority.group(2))
    raise UsageError(
        f"{what} {path}: {scheme}: is none that can stand here; name a path of a POSIX file system or a file: URL (a local disk "
        "or a mounted share), or objects where the input or the output may be some (docs/tables.md, docs/output.md)"
    )
