"""What may be done to the tensors' bytes before they are stored: lossless, and named by a byte.

A codec's code is part of every entry, so it is never given to another codec, and a codec's
output never changes its meaning. `decode(encode(raw, n), len(raw), n) == raw` for any bytes and n.

    raw                              as they are
    zstd lz4 snappy zlib             pyarrow's codecs (zlib is its gzip)
    shuffle-zstd shuffle-lz4 ...     first all first bytes of the numbers, then all second ones, ...

Dense floats hardly shrink: the top bytes of neighbours are alike, so they only do once they stand
together. Token ids, masks and sparse activations shrink well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

import numpy as np
import pyarrow as pa
from typing_extensions import override

from kvspark.errors import UsageError


class Codec(ABC):
    """A pair of inverse functions on bytes."""

    code: int
    name: str

    @abstractmethod
    def encode(self, raw: bytes, item_bytes: int) -> bytes:
        """The bytes to store for `raw`, whose numbers have `item_bytes` bytes each."""

    @abstractmethod
    def decode(self, payload: memoryview, raw_len: int, item_bytes: int) -> bytes:
        """The bytes that were encoded; never allocates more than `raw_len` bytes, twice.

        Raises:
            ValueError: `payload` is not the encoding of exactly `raw_len` bytes.
        """


@final
class RawCodec(Codec):
    """Stores the bytes as they are."""

    code = 0
    name = "raw"

    @override
    def encode(self, raw: bytes, item_bytes: int) -> bytes:
        return raw

    @override
    def decode(self, payload: memoryview, raw_len: int, item_bytes: int) -> bytes:
        if len(payload) != raw_len:
            raise ValueError(f"{len(payload)} bytes of payload, {raw_len} expected")
        return bytes(payload)


class ArrowCodec(Codec):
    """A codec of pyarrow at its default level: general compression of the bytes."""

    def __init__(self, code: int, name: str, arrow_name: str) -> None:
        self.code = code
        self.name = name
        self._arrow = pa.Codec(arrow_name)

    @override
    def encode(self, raw: bytes, item_bytes: int) -> bytes:
        return bytes(self._arrow.compress(raw, asbytes=True))

    @override
    def decode(self, payload: memoryview, raw_len: int, item_bytes: int) -> bytes:
        try:
            raw = self._decode(payload, raw_len)
        except (OSError, pa.ArrowException) as exc:
            raise ValueError(f"not the {self.name} encoding of {raw_len} bytes") from exc
        if len(raw) != raw_len:
            raise ValueError(f"{len(raw)} bytes encoded as {self.name}, {raw_len} expected")
        return raw

    @abstractmethod
    def _decode(self, payload: memoryview, raw_len: int) -> bytes:
        """What `payload` holds, not much more than `raw_len` bytes of it."""


@final
class BlockCodec(ArrowCodec):
    """For formats that say how many bytes they hold, in front."""

    @override
    def _decode(self, payload: memoryview, raw_len: int) -> bytes:
        # pyarrow fills what a shorter snappy block leaves with whatever was in memory.
        if self.name == "snappy" and _varint(payload) != raw_len:
            raise ValueError(f"a snappy block of other than {raw_len} bytes")
        return bytes(self._arrow.decompress(payload, decompressed_size=raw_len, asbytes=True))


@final
class StreamCodec(ArrowCodec):
    """For formats of which pyarrow finds the length only while it reads."""

    @override
    def _decode(self, payload: memoryview, raw_len: int) -> bytes:
        with pa.CompressedInputStream(pa.BufferReader(payload), self._arrow.name) as stream:
            return bytes(stream.read(raw_len + 1))


def _varint(payload: memoryview) -> int:
    """The number in front of a snappy block: seven bits a byte, the lowest first."""
    number = 0
    for place, byte in enumerate(payload[:5]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number
    return -1


@final
class ShuffledCodec(Codec):
    """Another codec behind a byte-shuffle."""

    def __init__(self, inner: Codec) -> None:
        self._inner = inner
        self.code = inner.code + _SHUFFLED
        self.name = f"shuffle-{inner.name}"

    @override
    def encode(self, raw: bytes, item_bytes: int) -> bytes:
        return self._inner.encode(_turned(raw, -1, item_bytes), item_bytes)

    @override
    def decode(self, payload: memoryview, raw_len: int, item_bytes: int) -> bytes:
        raw = self._inner.decode(payload, raw_len, item_bytes)
        if raw_len % item_bytes:
            raise ValueError(f"{raw_len} bytes are not numbers of {item_bytes}")
        return _turned(raw, item_bytes, -1)


def _turned(raw: bytes, rows: int, columns: int) -> bytes:
    """The transpose of `raw` as a table of bytes."""
    if not raw:
        return raw
    turned: bytes = np.frombuffer(raw, dtype=np.uint8).reshape(rows, columns).T.tobytes()
    return turned


_SHUFFLED = 16
RAW = RawCodec()

_ARROW = (
    BlockCodec(1, "zstd", "zstd"),
    StreamCodec(2, "lz4", "lz4"),
    BlockCodec(3, "snappy", "snappy"),
    StreamCodec(4, "zlib", "gzip"),
)
_CODECS: tuple[Codec, ...] = (RAW, *_ARROW, *map(ShuffledCodec, _ARROW))
CODEC_NAMES = tuple(codec.name for codec in _CODECS)
_BY_NAME = {codec.name: codec for codec in _CODECS}
_BY_CODE = {codec.code: codec for codec in _CODECS}


def codec_named(name: str) -> Codec:
    """The codec that is called `name`.

    Raises:
        UsageError: there is none.
    """
    codec = _BY_NAME.get(name)
    if codec is None:
        raise UsageError(f"codec is {name!r}; write one of {', '.join(sorted(_BY_NAME))}")
    return codec


def codec_coded(code: int) -> Codec | None:
    """The codec with this code; None for a code of another version of kvspark."""
    return _BY_CODE.get(code)
