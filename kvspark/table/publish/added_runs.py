"""Which runs have added the files of a table, for runs that add to it: `_kvspark/runs.json` among the notes of each version.

    {"format": 1, "files": {"<attempt>": <how many of its files are in the table>, ...}}

The names of attempts, which are in the paths of their files, say of which run they are. So the format's own log says
which files a run has added; the counts say whether these are all of them still, or another program has put some rows into
files of its own.
"""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import final

from kvspark.errors import OutputError
from kvspark.fingerprint import digest

RUNS_NOTE = "_kvspark/runs.json"
_FORMAT = 1
_NAME_CHARS = 80
"""Of a run id, in the name of an attempt."""


def attempt_name(run_id: str) -> str:
    """A new name for an attempt of run `run_id`: it fits a path, no other attempt has it, and it says of which run it is."""
    text = re.sub(r"[^A-Za-z0-9._-]", "_", run_id).strip(".")[:_NAME_CHARS]
    return f"{text}-{_mark(run_id)}-{secrets.token_hex(4)}"


def is_of_run(attempt: str, run_id: str) -> bool:
    """True if `attempt` is one of run `run_id`."""
    return attempt.rpartition("-")[0].endswith(f"-{_mark(run_id)}")


@final
@dataclass(frozen=True, slots=True)
class AddedRuns:
    """What runs have added."""

    files: Mapping[str, int] = field(default_factory=dict)
    """How many files with rows each attempt has in the table."""

    def of_run(self, run_id: str) -> dict[str, int]:
        """Those of the attempts of run `run_id`."""
        return {name: count for name, count in self.files.items() if is_of_run(name, run_id)}

    def with_attempt(self, attempt: str, run_id: str, count: int) -> AddedRuns:
        """Once `attempt` has added `count` files, beside those that are left of its run `run_id`."""
        ended = {name for name, left in self.of_run(run_id).items() if not left}
        others = {name: each for name, each in self.files.items() if name not in ended}
        return AddedRuns({**others, attempt: count})

    def without_run(self, run_id: str) -> AddedRuns:
        """Once all files of run `run_id` are gone."""
        gone = self.of_run(run_id)
        return AddedRuns({name: each for name, each in self.files.items() if name not in gone})

    def without(self, gone: Iterable[str]) -> AddedRuns:
        """Once a file is gone of each attempt of `gone`, which may name one several times."""
        counts = Counter(gone)
        return AddedRuns({name: count - counts[name] for name, count in self.files.items()})

    def check_told_apart(self, run_id: str, present: Iterable[str], url: str) -> None:
        """Does nothing if the files of run `run_id` are those that it has added; `present` has the attempt of each file there.

        Raises:
            OutputError: another program has written rows of the run into files of its own, or removed some.
        """
        found = Counter(name for name in present if is_of_run(name, run_id))
        added = self.of_run(run_id)
        if dict(found) != {name: count for name, count in added.items() if count}:
            raise OutputError(
                f"output path {url}: another program has rewritten or removed files that run {run_id} has added "
                f"({found.total():,} of {sum(added.values()):,} are there), so its rows cannot be replaced alone; nothing was "
                "published, go back to a version before (kvspark rollback), or publish all rows with output.mode: replace"
            )

    def to_bytes(self) -> bytes:
        """The note."""
        return f"{json.dumps({'format': _FORMAT, 'files': dict(self.files)})}\n".encode()

    @classmethod
    def from_bytes(cls, data: bytes | None, url: str) -> AddedRuns:
        """What the note of the version says to which rows are to be added.

        Raises:
            OutputError: there is none, or it is damaged.
        """
        try:
            value = json.loads(data or b"")
            if value["format"] == _FORMAT:
                return cls({str(name): int(count) for name, count in value["files"].items()})
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise OutputError(
            f"output path {url}: it is not known which run has added which of its rows (the last run had output.mode: merge, "
            f"or its {RUNS_NOTE} is gone or was never written), so a run cannot add to them; nothing was published, run it once with output.mode: replace"
        )


def _mark(run_id: str) -> str:
    return digest("kvspark.append", run_id).hex()[:12]
