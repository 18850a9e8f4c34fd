"""The pieces of a bundle's files: what two versions of a model have in common is one piece in both."""

from __future__ import annotations

import torch
from safetensors.torch import save

from kvspark.model.bundle.chunks import pieces_of


def pieces(content: bytes, name: str = "0/weights.safetensors") -> list[bytes]:
    found = [bytes(piece) for piece in pieces_of(name, memoryview(content))]
    assert b"".join(found) == content
    return found


def test_tensors_that_two_versions_share_are_pieces_of_both() -> None:
    trunk, head = torch.arange(64.0), torch.arange(8.0)
    first = pieces(save({"a.trunk": trunk, "b.head": head}))
    second = pieces(save({"a.trunk": trunk, "b.head": head + 1}))
    assert len(first) == len(second) == 3  # what is in the file, and the two tensors
    assert [one == other for one, other in zip(first, second, strict=True)] == [True, True, False]
    assert first[1:] == [trunk.numpy().tobytes(), head.numpy().tobytes()]


def test_what_is_no_safetensors_file_is_one_piece() -> None:
    whole = save({"a": torch.zeros(4)})
    assert pieces(whole, "graph.json") == [whole]
    for odd in (b"x", b"\xff" * 64, whole[:20], (2**62).to_bytes(8, "little") + b"{}"):
        assert pieces(odd) == [odd]
    assert pieces(b"") == []
