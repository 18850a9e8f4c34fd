"""The weights of a graph stage on disk: a safetensors file of which every tensor can be mapped in place.

torch gives a tensor of its own a place at a multiple of 64 bytes, and kernels may take another path
at another alignment. A mapped tensor lies where the file has it, and safetensors promises 8 bytes, so:

    8 bytes    length of the header, little-endian
    header     JSON, filled up with spaces: the first tensor starts at a multiple of 64
    tensors    "0", "1", ... in the order of first use, each at a multiple of 64

The format allows no holes between tensors, so what fills them up is a tensor too: "pad0", "pad1", ...
of bytes. Any reader of safetensors can open the file.

Source: the safetensors format, https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open

from kvspark.errors import ExportError

ALIGNMENT_BYTES = 64
"""c10::gAlignment of torch, and one line of the cache."""

_LENGTH_BYTES = 8

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}


def write_weights(path: Path, tensors: Sequence[torch.Tensor]) -> None:
    """Writes `tensors`, named by their places, to the file `path`.

    Raises:
        ExportError: a tensor has a dtype that the format does not know.
    """
    header: dict[str, object] = {}
    end = 0
    for place, tensor in enumerate(tensors):
        if tensor.dtype not in _NAMES:
            raise ExportError(
                f"a weight has dtype {tensor.dtype}, which cannot be stored; expected one of "
                f"{', '.join(str(dtype) for dtype in _NAMES)}"
            )
        stop = end + tensor.nbytes
        header[str(place)] = _line(_NAMES[tensor.dtype], tensor.shape, end, stop)
        end = stop
        if gap := -end % ALIGNMENT_BYTES:
            header[f"pad{place}"] = _line("U8", [gap], end, end + gap)
            end += gap
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-(_LENGTH_BYTES + len(encoded)) % ALIGNMENT_BYTES)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(_LENGTH_BYTES, "little") + encoded)
        for tensor in tensors:
            plain = tensor.detach().cpu().contiguous().reshape(-1)
            file.write(plain.view(torch.uint8).numpy().data)
            file.write(bytes(-tensor.nbytes % ALIGNMENT_BYTES))


def map_weights(path: Path) -> list[torch.Tensor]:
    """The tensors that `write_weights` wrote to `path`, in their order.

    Guarantees: they lie in a mapping of the file and are read when they are used, so that all
    processes that map it share one copy; each is aligned as one that torch made. A tensor that the
    file has elsewhere is copied.

    Raises:
        OSError: the file cannot be read.
        SafetensorError: it is not a file of this format.
    """
    with safe_open(path, framework="pt") as opened:
        names = sorted(filter(str.isdecimal, opened.keys()), key=int)
        tensors = [opened.get_tensor(name) for name in names]
    return [tensor.clone() if tensor.data_ptr() % ALIGNMENT_BYTES else tensor for tensor in tensors]


def _line(dtype: str, shape: Sequence[int], start: int, stop: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}
