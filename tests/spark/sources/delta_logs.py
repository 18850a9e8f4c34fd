"""Delta tables as Spark writes them and the client does not: columns that are called otherwise in files, deleted rows.

Source: https://github.com/delta-io/delta/blob/master/PROTOCOL.md
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

_BASE85 = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_MAGIC = 1681511377
_COOKIE = 12346


def rewrite(table: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes each action of version 0 of `table`."""
    log = table / "_delta_log" / f"{0:020d}.json"
    actions = [json.loads(line) for line in log.read_text().splitlines() if line.strip()]
    for action in actions:
        change(action)
    log.write_text("".join(f"{json.dumps(action)}\n" for action in actions))


def call_columns(table: Path, names: Mapping[str, str], mode: str = "name") -> None:
    """Gives the columns of `table` other names than those in its files, which `names` has."""

    def change(action: dict[str, Any]) -> None:
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}
        if "metaData" in action:
            data = action["metaData"]
            schema = json.loads(data["schemaString"])
            _call(schema, names)
            data["schemaString"] = json.dumps(schema)
            data["partitionColumns"] = [names[name] for name in data["partitionColumns"]]
            data["configuration"] = {
                "delta.columnMapping.mode": mode,
                "delta.columnMapping.maxColumnId": str(len(names)),
            }

    rewrite(table, change)


def _call(kind: Any, names: Mapping[str, str]) -> None:
    if not isinstance(kind, dict):
        return
    for field in kind.get("fields", ()):
        own = field["name"]
        field["metadata"] = {
            "delta.columnMapping.id": [*names].index(own) + 1,
            "delta.columnMapping.physicalName": own,
        }
        field["name"] = names[own]
        _call(field["type"], names)
    for part in ("elementType", "keyType", "valueType"):
        _call(kind.get(part), names)


def delete_rows(table: Path, rows: Sequence[int]) -> None:
    """Marks `rows` of the first file of `table` as deleted, by a vector in its log."""
    done: list[str] = []

    def change(action: dict[str, Any]) -> None:
        if "protocol" in action:
            features = ["deletionVectors"]
            action["protocol"] = {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": features,
                "writerFeatures": features,
            }
        if "metaData" in action:
            action["metaData"]["configuration"] = {"delta.enableDeletionVectors": "true"}
        if "add" in action and not done:
            done.append(action["add"]["path"])
            data = _bitmap(rows)
            action["add"]["deletionVector"] = {
                "storageType": "i",
                "pathOrInlineDv": _base85(data),
                "sizeInBytes": len(data),
                "cardinality": len(rows),
            }

    rewrite(table, change)


def _bitmap(rows: Sequence[int]) -> bytes:
    """One bitmap of 32 bits, with one array of 16 bits in it."""
    values = struct.pack(f"<{len(rows)}H", *sorted(rows))
    array = struct.pack("<IIHHI", _COOKIE, 1, 0, len(rows) - 1, 16) + values
    return struct.pack("<iqI", _MAGIC, 1, 0) + array


def _base85(data: bytes) -> str:
    data += bytes(-len(data) % 4)
    text = ""
    for (number,) in struct.iter_unpack(">I", data):
        text += "".join(_BASE85[number // 85**place % 85] for place in range(4, -1, -1))
    return text
