"""What may be done to the tensors' bytes before they are stored: lossless, and named by a byte.

A codec's code is part of every entry, so it is never given to another codec, and a codec's
output never changes its meaning. `decode(encode(raw), len(raw)) == raw` for any bytes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

import pyarrow as pa
from typing_extensions import override

from kvspark.errors import UsageError


class Codec(ABC):
    """A pair of inverse functions on bytes."""

    code: ClassVar[int]
    name: ClassVar[str]

    @abstractmethod
    def encode(self, raw: bytes) -> bytes:
        """The bytes to store for `raw`."""

    @abstractmethod
    def decode(self, payload: memoryview, raw_len: int) -> bytes:
        """The bytes that were encoded; never allocates more than `raw_len` bytes.

        Raises:
            ValueError: `payload` is not the encoding of exactly `raw_len` bytes.
        """


@final
class RawCodec(Codec):
    """Stores the bytes as they are."""

    code = 0
    name = "raw"

    @override
    def encode(self, raw: bytes) -> bytes:
        return raw

    @override
    def decode(self, payload: memoryview, raw_len: int) -> bytes:
        if len(payload) != raw_len:
            raise ValueError(f"{len(payload)} bytes of payload, {raw_len} expected")
        return bytes(payload)


@final
class ZstdCodec(Codec):
    """Zstandard (RFC 8878) at pyarrow's default level.

    For token ids, masks and sparse activations. Embeddings hardly shrink: 1,536 bytes of float32
    became 1,480, for 10 microseconds of encoding and 6 of decoding a row.
    """

    code = 1
    name = "zstd"

    def __init__(self) -> None:
        self._zstd = pa.Codec("zstd")

    @override
    def encode(self, raw: bytes) -> bytes:
        return bytes(self._zstd.compress(raw, asbytes=True))

    @override
    def decode(self, payload: memoryview, raw_len: int) -> bytes:
        try:
            raw = bytes(self._zstd.decompress(payload, decompressed_size=raw_len, asbytes=True))
        except (OSError, pa.ArrowException) as exc:
            raise ValueError(f"not the zstd frame of {raw_len} bytes") from exc
        if len(raw) != raw_len:
            raise ValueError(f"{len(raw)} bytes in the zstd frame, {raw_len} expected")
        return raw


RAW = RawCodec()

_CODECS: tuple[Codec, ...] = (RAW, ZstdCodec())
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
