"""A value that is only written on condition that nobody has written it since it was read; made of renames.

    <name>/now-00000007-3f2a9c51    an empty file, whose name says which value counts
    <name>/00000007-3f2a9c51        that value

A value is written beside the others first. Then the marker gets its name, by one rename, which fails where the marker
has another name by now: of two writers that read the same, one wins, and one that was only slow never does, since no
name of a marker comes twice. The folder itself comes by one rename as well, and is never removed.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import final

from kvspark.table.hdfs.hdfs_files import FileStatus, HdfsFiles
from kvspark.table.objects.objects import ObjectChangedError, Stored

_NOW = "now-"
_NEW = ".new-"
_MOST_READS = 20
"""So many writers in a row would have to come between the listing and the reading of a value."""


@final
class SwappedValue:
    """The value `name`."""

    def __init__(self, files: HdfsFiles, name: str) -> None:
        self._files = files
        self._name = name

    def read(self) -> Stored | None:
        """What is in there now; None if nobody has written it. A plain file of that name is read as well.

        Raises:
            OSError: HDFS refuses, or does not answer.
        """
        before = ""
        for _ in range(_MOST_READS):
            listed = {each.path.rpartition("/")[2]: each for each in self._listed()}
            tag = _counts(listed)
            if tag is None:
                return self._plain(listed)
            try:
                data = self._files.read(f"{self._name}/{tag}")
            except OSError:
                if tag == before:
                    raise
                before = tag  # another one counts by now, unless it is the same again
                continue
            if tag in listed:
                return Stored(data, tag, listed[tag].modified_at)
        raise OSError(f"{self._files.url}/{self._name}: it is written faster than it can be read")

    def write(self, data: bytes, tag: str | None) -> str:
        """Makes `data` the value, if it still has `tag`, or nobody has written it for None; its new tag.

        Raises:
            ObjectChangedError: another writer was first, or this one, whose answer was lost.
            OSError: HDFS refuses, or does not answer: the value may be written or not.
        """
        if tag == "":
            raise OSError(
                f"{self._files.url}/{self._name} is a plain file, which no run wrote here; move it away, or choose another path"
            )
        number = 1 if tag is None else int(tag.partition("-")[0]) + 1
        own = f"{number:08d}-{secrets.token_hex(8)}"
        try:
            if tag is None:
                self._begin(own, data)
            else:
                self._files.write(f"{self._name}/{own}", data)
                # Not removed where this fails: it may have come through, and only its answer was lost.
                self._files.move(f"{self._name}/{_NOW}{tag}", f"{self._name}/{_NOW}{own}")
        except (FileNotFoundError, FileExistsError) as exc:
            raise ObjectChangedError(
                f"{self._files.url}/{self._name} was changed by another run"
            ) from exc
        with suppress(OSError):
            self._tidy(own)
        return own

    def _begin(self, own: str, data: bytes) -> None:
        folder = f"{self._name}{_NEW}{own}"
        self._files.write(f"{folder}/{own}", data)
        self._files.write(f"{folder}/{_NOW}{own}", b"")
        try:
            self._files.move(folder, self._name)
        except FileExistsError:
            with suppress(OSError):
                self._files.delete(folder)
            raise

    def _tidy(self, own: str) -> None:
        """Removes values that cannot count any more: those of this number, or an earlier one.

        Who expects this value writes one of a later number.
        """
        number = own.partition("-")[0]
        for each in self._listed():
            value = each.path.rpartition("/")[2]
            if not value.startswith(_NOW) and value != own and value.partition("-")[0] <= number:
                self._files.delete(each.path)
        if int(number) == 1:
            parent, _, own_name = self._name.rpartition("/")
            for each in self._files.listed(parent):
                if each.path.rpartition("/")[2].startswith(f"{own_name}{_NEW}"):
                    self._files.delete(each.path)

    def _listed(self) -> list[FileStatus]:
        return list(self._files.listed(self._name))

    def _plain(self, listed: dict[str, FileStatus]) -> Stored | None:
        status = next((each for each in listed.values() if each.path == self._name), None)
        if status is None:
            return None
        return Stored(self._files.read(self._name), "", status.modified_at)


def _counts(names: dict[str, FileStatus]) -> str | None:
    """The tag of the value that counts."""
    found = [name.removeprefix(_NOW) for name in names if name.startswith(_NOW)]
    return found[0] if found else None
