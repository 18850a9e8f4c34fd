"""torch.jit, on the TorchScript file that a model was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from kvspark.model.own.runtime import (
    Array,
    FileRuntime,
    Row,
    RunRow,
    batch_of_one,
    batched,
    of_one_row,
)
from kvspark.spec import TensorSpec


@final
class TorchScriptFile(FileRuntime):
    """The program, loaded and called by torch with one row."""

    library = "torch.jit"

    def open(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> RunRow:
        import torch

        from kvspark.model.opaque.torchscript import opened_torchscript

        module = opened_torchscript(self.path())

        def run(row: Row) -> Mapping[str, Array]:
            given = [torch.from_numpy(batch_of_one(row, spec)) for spec in inputs]

            def call(copies: int) -> Mapping[str, Array]:
                with torch.inference_mode():
                    made = module(*(one.repeat_interleave(copies, dim=0) for one in given))
                return batched(_arrays(made), outputs)

            return of_one_row(call, outputs)

        return run


def _arrays(made: Any) -> Any:
    if isinstance(made, Mapping):
        return {name: _arrays(one) for name, one in made.items()}
    if isinstance(made, list | tuple):
        return [_arrays(one) for one in made]
    return made.detach().numpy()
