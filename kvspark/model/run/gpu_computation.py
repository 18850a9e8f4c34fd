"""A program on a GPU: rows go there, are computed and come back on three streams at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from kvspark.model.run.backing_off import BackingOff
from kvspark.model.run.computation import Array, Computation, read_program
from kvspark.model.run.device import check_gpu, settle_gpu, strict_arithmetic
from kvspark.model.stage.stage import Stage
from kvspark.spec import Rows


@final
class GpuComputation(Computation):
    """A program of torch operators, with its weights on one GPU."""

    def __init__(self, stage: Stage, files: Mapping[str, Path], *, device: str) -> None:
        """Raises ModelError where torch finds no such GPU."""
        settle_gpu()
        check_gpu(device)
        import torch

        self._torch = torch
        self._device = torch.device(device)
        self._dtypes = [source.tensor.dtype for source in stage.sources]
        self._program = read_program(stage, files, device=device)
        cuda: Any = torch.cuda  # its streams are untyped
        self._in = cuda.Stream(self._device)
        self._out = cuda.Stream(self._device)

    @property
    def overlaps(self) -> bool:
        return True

    def run(self, arguments: Sequence[Any]) -> tuple[Rows, ...]:
        return self.submit(arguments)()

    def submit(self, arguments: Sequence[Any]) -> Callable[[], tuple[Rows, ...]]:
        torch = self._torch
        with torch.inference_mode(), torch.cuda.device(self._device), strict_arithmetic():
            computing = torch.cuda.current_stream(self._device)
            # Pinned, or the copy would wait for all that was asked of the GPU before.
            pinned = [
                self._pinned(array, dtype)
                for array, dtype in zip(arguments, self._dtypes, strict=True)
            ]
            with torch.cuda.stream(self._in):
                given = [tensor.to(self._device, non_blocking=True) for tensor in pinned]
            computing.wait_stream(self._in)
            for tensor in given:
                # Made on one stream, used on another: its memory is not given away before.
                tensor.record_stream(computing)
            results = [tensor.contiguous() for tensor in self._program(*given)]
            self._out.wait_stream(computing)
            with torch.cuda.stream(self._out):
                back = [self._brought_back(tensor) for tensor in results]
            is_done = self._out.record_event()
        return _Arriving(pinned, back, is_done)

    def free(self) -> None:
        """Gives memory that no tensor uses back to the GPU."""
        self._torch.cuda.synchronize(self._device)
        self._torch.cuda.empty_cache()

    def _pinned(self, array: Array, dtype: str) -> Any:
        tensor = self._torch.from_numpy(array)
        if dtype == "bfloat16":
            tensor = tensor.view(self._torch.bfloat16)
        return tensor.pin_memory()

    def _brought_back(self, result: Any) -> Any:
        result.record_stream(self._out)
        plain = result.view(self._torch.uint16) if result.dtype == self._torch.bfloat16 else result
        host = self._torch.empty(plain.shape, dtype=plain.dtype, pin_memory=True)
        return host.copy_(plain, non_blocking=True)


@final
class _Arriving:
    """Results on their way from the GPU."""

    def __init__(self, pinned: Sequence[Any], back: Sequence[Any], is_done: Any) -> None:
        # What is copied from must live until it was copied.
        self._pinned = pinned
        self._back = back
        self._is_done = is_done

    def __call__(self) -> tuple[Rows, ...]:
        """The results, once they are here."""
        self._is_done.synchronize()
        # Pinned memory is scarce, and a caller may keep rows for long.
        return tuple(np.array(tensor.numpy()) for tensor in self._back)


def on_gpu(stage: Stage, files: Mapping[str, Path], *, device: str) -> Computation:
    """What runs `stage` on the GPU `device`, in smaller calls where its memory is too small.

    Raises:
        BundleError: its files are missing or damaged.
        ModelError: torch finds no such GPU.
    """
    inner = GpuComputation(stage, files, device=device)
    return BackingOff(inner, stage.name, inner.free)
