"""Canonical bytes of plain values, and the BLAKE2b digests that are made of them.

A value is written as a type byte, a length of 8 bytes (little-endian) and its content, so that
no two values have the same bytes and no field can run into the next:

    N none   T true   F false   I integer (decimal)   D float (IEEE 754, 8 bytes)
    S text (UTF-8)   B bytes   L list of values   M mapping (keys sorted as text)

The bytes depend on nothing but the value: not on the process, `PYTHONHASHSEED`, insertion order
or the platform. A value of any other type is an error, never a guess.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from hashlib import blake2b, sha256
from pathlib import Path
from typing import NewType

from kvspark.errors import FingerprintError

Fingerprint = NewType("Fingerprint", bytes)
"""32 bytes that name a stage; equal bytes promise equal results."""

FORMAT_VERSION = 1
"""Part of every fingerprint: raise it whenever the canonical bytes of anything change."""

DIGEST_BYTES = 32

Canonical = (
    None | bool | int | float | str | bytes | Sequence["Canonical"] | Mapping[str, "Canonical"]
)


def canonical_bytes(value: Canonical) -> bytes:
    """The bytes of `value`, the same in every process and on every platform.

    Raises:
        FingerprintError: `value` holds an object of another type, or a mapping key that is not text.
    """
    if value is None:
        return _field(b"N", b"")
    if isinstance(value, bool):
        return _field(b"T" if value else b"F", b"")
    if isinstance(value, int):
        return _field(b"I", str(value).encode())
    if isinstance(value, float):
        return _field(b"D", struct.pack("<d", value))
    if isinstance(value, str):
        # surrogatepass: a lone surrogate is a legal value of a Spark string column.
        return _field(b"S", value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes | bytearray | memoryview):
        return _field(b"B", bytes(value))
    if isinstance(value, Mapping):
        return _field(b"M", b"".join(_pair(key, value[key]) for key in _sorted_keys(value)))
    if isinstance(value, list | tuple):
        return _field(b"L", b"".join(canonical_bytes(item) for item in value))
    raise FingerprintError(
        f"a {type(value).__module__}.{type(value).__qualname__} has no canonical bytes; "
        "pass None, bool, int, float, str, bytes, a list or a mapping of these"
    )


def digest(kind: str, value: Canonical) -> Fingerprint:
    """BLAKE2b-256 (RFC 7693) of `value`, in a domain of its own for each `kind`.

    `kind` is at most 16 bytes: it is BLAKE2b's personalisation, so that digests of different kinds
    never meet, whatever their content.
    """
    hasher = blake2b(digest_size=DIGEST_BYTES, person=kind.encode())
    hasher.update(canonical_bytes(value))
    return Fingerprint(hasher.digest())


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex, as `sha256sum` prints it."""
    hasher = sha256()
    with path.open("rb") as opened:
        while chunk := opened.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest()


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + len(content).to_bytes(8, "little") + content


def _pair(key: str, item: Canonical) -> bytes:
    return canonical_bytes(key) + canonical_bytes(item)


def _sorted_keys(value: Mapping[str, Canonical]) -> list[str]:
    keys = list(value)
    for key in keys:
        if not isinstance(key, str):
            raise FingerprintError(f"a mapping key must be text, got {type(key).__qualname__}")
    return sorted(keys)
