"""Weights on disk: any reader can open them, and every tensor lies where torch would have put it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kvspark.errors import ExportError
from kvspark.model.bundle.chunks import pieces_of
from kvspark.model.run.weights import ALIGNMENT_BYTES, map_weights, write_weights

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]

tensors = st.lists(
    st.builds(
        lambda shape, dtype: torch.randint(0, 2, shape).to(dtype),
        st.lists(st.integers(0, 7), max_size=3),
        st.sampled_from(DTYPES),
    ),
    max_size=6,
)


def bits(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@given(tensors)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tensors_come_back_in_order_and_aligned(tmp_path: Path, given: list[torch.Tensor]) -> None:
    write_weights(tmp_path / "w", given)
    found = map_weights(tmp_path / "w")
    assert [(t.dtype, t.shape, bits(t)) for t in found] == [
        (t.dtype, t.shape, bits(t)) for t in given
    ]
    assert all(t.data_ptr() % ALIGNMENT_BYTES == 0 for t in found if t.numel())


@given(tensors)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_reader_of_safetensors_can_open_the_file(
    tmp_path: Path, given: list[torch.Tensor]
) -> None:
    write_weights(tmp_path / "w", given)
    found = load_file(tmp_path / "w")
    assert all(bits(found[str(place)]) == bits(t) for place, t in enumerate(given))


@given(tensors)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_end_where_tensors_do_and_are_the_whole_file(
    tmp_path: Path, given: list[torch.Tensor]
) -> None:
    write_weights(tmp_path / "w", given)
    content = (tmp_path / "w").read_bytes()
    pieces = [bytes(p) for p in pieces_of("weights.safetensors", memoryview(content))]
    assert b"".join(pieces) == content
    assert {bits(t) for t in given if t.nbytes} <= set(pieces)


@pytest.mark.parametrize("content", [b"", b"x", b"\xff" * 64, (2).to_bytes(8, "little") + b"[]x"])
def test_what_is_no_such_file_is_one_piece(content: bytes) -> None:
    pieces = [bytes(p) for p in pieces_of("weights.safetensors", memoryview(content))]
    assert b"".join(pieces) == content
    assert [bytes(p) for p in pieces_of("graph.json", memoryview(b"{}"))] == [b"{}"]


def test_tensors_are_mapped_and_never_copied(tmp_path: Path) -> None:
    # 3 x 4 MB and a bias of 12 bytes behind each, which would put the next one off its place.
    write_weights(
        tmp_path / "w", [t for _ in range(3) for t in (torch.rand(1 << 20), torch.rand(3))]
    )
    before = anonymous_bytes()
    found = map_weights(tmp_path / "w")
    assert sum(float(t.sum()) for t in found) > 0
    assert anonymous_bytes() - before < 1 << 20
    maps = Path("/proc/self/maps").read_text().splitlines()
    assert len([line for line in maps if line.endswith(str(tmp_path / "w"))]) == 1


def anonymous_bytes() -> int:
    text = Path("/proc/self/smaps_rollup").read_text()
    found = re.search(r"^Anonymous: +(\d+) kB", text, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def test_a_file_that_is_not_aligned_is_read_into_aligned_tensors(tmp_path: Path) -> None:
    given = {"0": torch.rand(3), "1": torch.rand(5, 5), "2": torch.rand(2)}
    save_file(given, tmp_path / "w")
    found = map_weights(tmp_path / "w")
    assert [bits(t) for t in found] == [bits(t) for t in given.values()]
    assert all(t.data_ptr() % ALIGNMENT_BYTES == 0 for t in found)


def test_a_dtype_that_has_no_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="complex128, which cannot be stored"):
        write_weights(tmp_path / "w", [torch.zeros(1, dtype=torch.complex128)])
