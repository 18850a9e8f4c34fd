"""What is removed of a table in an object store or in HDFS: what no version that can be read has a use for.

A folder of `_runs` stays while a version lists a file in it. The other files of it go all the same: where partitions are
replaced, what the first run wrote would stay for ever else, beside the one partition that nobody has replaced.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import final

from kvspark.errors import OutputError
from kvspark.fault import fault_point
from kvspark.table.objects.objects import Objects
from kvspark.table.publish.object_table import NOTES, RUNS, ObjectTable
from kvspark.table.publish.pointer import Pointer, versions_in

log = logging.getLogger(__name__)


@final
class ObjectSweep:
    """Below one URL. Methods raise OSError where the store refuses."""

    def __init__(self, store: Objects, table: ObjectTable) -> None:
        self._store = store
        self._table = table

    def found(self) -> Mapping[str, Collection[str]]:
        """All that there is of each attempt, by path in its folder.

        It is asked for before a pointer is written by which attempts that have begun until then can commit no more.
        """
        found: dict[str, list[str]] = {name: [] for name in self._store.folders(RUNS)}
        for each in self._store.listed(RUNS):
            attempt, _, path = each.name.removeprefix(f"{RUNS}/").partition("/")
            found.setdefault(attempt, []).append(path)
        return found

    def remove(
        self, found: Mapping[str, Collection[str]], there: Pointer | None, *, point: str
    ) -> None:
        """Removes of `found` what the versions of `there` do not need. `point` is that of faults."""
        try:
            needed = self.needed(there)
        except OutputError as exc:
            log.warning("nothing old is removed below %s: %s", self._table.url, exc)
            return
        dead = {f"{RUNS}/{name}": found[name] for name in found if name not in needed}
        for folder in dead:
            log.info("removed what is left in %s/%s", self._table.url, folder)
        self._store.delete_folders(dead)
        fault_point(point)
        versions = {each.attempt for each in versions_in(there)}
        surplus = [
            f"{RUNS}/{name}/{path}"
            for name in found.keys() & needed.keys()
            for path in found[name]
            if path not in needed[name] and not (name in versions and _is_note(path))
        ]
        self._store.delete(surplus)

    def needed(self, there: Pointer | None) -> Mapping[str, set[str]]:
        """The attempts whose folders stay, each with the files that a version of `there` lists.

        Raises:
            OutputError: the list of a version is gone or damaged.
        """
        needed: defaultdict[str, set[str]] = defaultdict(set)
        for version in versions_in(there):
            needed[version.attempt] |= set()
            for share in self._table.files(version).shares:
                needed[share.attempt] |= share.paths
        return needed


def _is_note(path: str) -> bool:
    """True for what says of a version what it is."""
    return path.startswith(f"{NOTES}/") or not path.endswith(".parquet")
