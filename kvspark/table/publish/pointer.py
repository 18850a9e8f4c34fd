"""The object that says which version of a table readers find.

    {"format": 1, "mark": ..., "owner": ..., "writer": ..., "current": {...} | null, "kept": [{...}, ...]}

It is only ever replaced by a conditional write. `mark` is of one write alone, so that no two contents have one
ETag, and who lost the answer of a write sees whether it was his. `writer` is the attempt that may commit.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, final

from kvspark.errors import OutputError
from kvspark.table.publish.publisher import Published

POINTER_NAME = "_kvspark/pointer.json"
_FORMAT = 1
_BLOCK_BYTES = 4096
"""Of which a pointer has a whole number: a reader that asks for the size first, as Arrow does, and reads another pointer
then, must not cut it off."""


def _new_mark() -> str:
    return secrets.token_hex(8)


@final
@dataclass(frozen=True, slots=True)
class Pointer:
    """What the pointer says."""

    owner: str | None = None
    """The job whose table it is."""
    writer: str | None = None
    current: Published | None = None
    kept: tuple[Published, ...] = ()
    mark: str = field(default_factory=_new_mark)

    def to_bytes(self) -> bytes:
        """The object."""
        data = json.dumps({"format": _FORMAT, **asdict(self)}, indent=1).encode()
        return data + b" " * (-(len(data) + 1) % _BLOCK_BYTES) + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, *, url: str) -> Pointer:
        """What the object of target `url` says.

        Raises:
            OutputError: it is none that this version wrote.
        """
        try:
            value: dict[str, Any] = json.loads(data)
            current = value["current"]
            made = cls(
                owner=value["owner"],
                writer=value["writer"],
                current=None if current is None else Published(**current),
                kept=tuple(Published(**each) for each in value["kept"]),
                mark=str(value["mark"]),
            )
            if value["format"] == _FORMAT:
                return made
        except (ValueError, KeyError, TypeError):
            pass
        raise OutputError(
            f"output path {url}: its {POINTER_NAME} is damaged, or a later version of kvspark wrote it; nothing was "
            "published, restore that object, or choose another path"
        )


def versions_in(pointer: Pointer | None) -> Sequence[Published]:
    """The current version and those that are kept."""
    versions = () if pointer is None else (pointer.current, *pointer.kept)
    return [each for each in versions if each is not None]
