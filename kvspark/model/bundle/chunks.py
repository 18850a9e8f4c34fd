"""A file of a bundle cut where another version of the model may have the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import PurePosixPath

_LENGTH_BYTES = 8


def pieces_of(name: str, content: memoryview) -> Iterator[memoryview]:
    """The pieces of the file `name`, from its start to its end: the tensors of a safetensors file.

    Any other file is one piece; so is one that is no safetensors file, whatever its name is.
    """
    start = 0
    for end in sorted({*_ends(name, content), len(content)}):
        if end > start:
            yield content[start:end]
            start = end


def _ends(name: str, content: memoryview) -> list[int]:
    if PurePosixPath(name).suffix != ".safetensors":
        return []
    data = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    try:
        header = json.loads(bytes(content[_LENGTH_BYTES:data]))
        ends = [data + line["data_offsets"][1] for line in header.values()]
    except (ValueError, LookupError, TypeError, AttributeError):
        return []
    return [end for end in [data, *ends] if 0 <= end <= len(content)]
