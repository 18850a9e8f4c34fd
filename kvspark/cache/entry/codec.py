"""What may be done to the tensors' bytes before they are stored: lossless, and named by a byte.

A codec's code is part of every entry, so it is never given to another codec, and a codec's
output never changes its meaning. `decode(encode(raw), len(raw)) == raw` for any bytes.

Dense floats hardly shrink. Token ids, masks and sparse activations shrink well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import pyarrow as pa

from kvspark.config.section.removed import removed_codec
from kvspark.errors import UsageError


@final
@dataclass(frozen=True, slots=True)
class Codec:
    """A pair of inverse functions on bytes; `arrow_name` is pyarrow's for it, None where bytes stay as they are."""

    code: int
    name: str
    arrow_name: str | None

    def encode(self, raw: bytes) -> bytes:
        """The bytes to store for `raw`."""
        if self.arrow_name is None:
            return raw
        return bytes(_ARROW[self.arrow_name].compress(raw, asbytes=True))

    def decode(self, payload: memoryview, raw_len: int) -> bytes:
        """The bytes that were encoded; never allocates much more than `raw_len` bytes.

        Raises:
            ValueError: `payload` is not the encoding of exactly `raw_len` bytes.
        """
        try:
            raw = self._decoded(payload, raw_len)
        except (OSError, pa.ArrowException) as exc:
            raise ValueError(f"not the {self.name} encoding of {raw_len} bytes") from exc
        if len(raw) != raw_len:
            raise ValueError(f"{len(raw)} bytes encoded as {self.name}, {raw_len} expected")
        return raw

    def _decoded(self, payload: memoryview, raw_len: int) -> bytes:
        if self.arrow_name is None:
            return bytes(payload)
        if self.arrow_name in _STREAMED:
            with pa.CompressedInputStream(pa.BufferReader(payload), self.arrow_name) as stream:
                return bytes(stream.read(raw_len + 1))
        # pyarrow fills what a shorter snappy block leaves with whatever was in memory.
        if self.arrow_name == "snappy" and _varint(payload) != raw_len:
            raise ValueError(f"a snappy block of other than {raw_len} bytes")
        codec = _ARROW[self.arrow_name]
        return bytes(codec.decompress(payload, decompressed_size=raw_len, asbytes=True))


_ARROW = {name: pa.Codec(name) for name in ("zstd", "lz4", "snappy", "gzip")}
"""pyarrow's codecs at their default levels."""

_STREAMED = frozenset({"lz4", "gzip"})
"""Formats of which pyarrow finds the length only while it reads."""


def _varint(payload: memoryview) -> int:
    """The number in front of a snappy block: seven bits a byte, the lowest first."""
    number = 0
    for place, byte in enumerate(payload[:5]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number
    return -1


RAW = Codec(0, "raw", None)
# 17 to 20 were the four behind a byte-shuffle, and are not given again.
_CODECS = (
    RAW,
    Codec(1, "zstd", "zstd"),
    Codec(2, "lz4", "lz4"),
    Codec(3, "snappy", "snappy"),
    Codec(4, "zlib", "gzip"),
)
CODEC_NAMES = tuple(codec.name for codec in _CODECS)
_BY_NAME = {codec.name: codec for codec in _CODECS}
_BY_CODE = {codec.code: codec for codec in _CODECS}


def codec_named(name: str) -> Codec:
    """The codec that is called `name`.

    Raises:
        UsageError: there is none; says what replaced one that is gone.
    """
    codec = _BY_NAME.get(name)
    if codec is None:
        raise UsageError(
            removed_codec(name) or f"codec is {name!r}; write one of {', '.join(sorted(_BY_NAME))}"
        )
    return codec


def codec_coded(code: int) -> Codec | None:
    """The codec with this code; None for a code of another version of kvspark."""
    return _BY_CODE.get(code)
