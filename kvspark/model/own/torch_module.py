"""Eager torch: the module that a model was made of."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np

from kvspark.errors import ModelError
from kvspark.model.own.runtime import (
    Array,
    OwnRuntime,
    Row,
    RunRow,
    batch_of_one,
    of_one_row,
)
from kvspark.spec import TensorSpec

if TYPE_CHECKING:
    import torch

    from kvspark.model.features.features import Features

HALVES = ("bfloat16", "float16")


@final
class TorchModule(OwnRuntime):
    """A module as it is now, called with one row; it is not kept alive."""

    def __init__(
        self,
        module: torch.nn.Module,
        names: Sequence[str],
        *,
        features: Features | None = None,
        dtype: str | None = None,
    ) -> None:
        """The runtime of `module`, whose inputs are `names` in its own order.

        `features` make them of what the model takes; with `dtype` a copy of it computes in that.
        """
        self._module = weakref.ref(module)
        self._type = type(module).__name__
        self._names = tuple(names)
        self._features = features
        self._dtype = dtype

    @property
    def name(self) -> str:
        told = f"eager torch ({self._type}"
        told += "" if self._dtype is None else f", in {self._dtype}"
        told += ")"
        return told if self._features is None else f"{told} behind its own features"

    @property
    def is_half(self) -> bool:
        module = self._module()
        if self._dtype is not None or module is None:
            return self._dtype in HALVES
        return any(str(one.dtype).removeprefix("torch.") in HALVES for one in module.parameters())

    def open(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> RunRow:
        import torch

        from kvspark.model.run.outputs import Named, call_unchanged
        from kvspark.model.torch.exportable import unwrapped
        from kvspark.model.torch.precision import cast_copy, dtype_named

        module = self._module()
        if module is None:
            raise ModelError(
                f"the {self._type} that the model was made of is gone: keep it, or pass runtime=module"
            )
        if any(part.training for part in module.modules()):
            raise ModelError(
                f"the {self._type} that the model was made of is in training mode now; call eval()"
            )
        module, dtype = unwrapped(module), None
        if self._dtype is not None:
            dtype = dtype_named(self._dtype)
            module = cast_copy(module, dtype)
        called = Named(module, self._names, dtype)
        specs = tuple(inputs) if self._features is None else self._features.outputs
        named = {spec.name: spec for spec in specs}

        def run(row: Row) -> Mapping[str, Array]:
            given = row if self._features is None else _featured(self._features, row)
            tensors = [_tensor(given, named[name]) for name in self._names]

            def call(copies: int) -> Mapping[str, Array]:
                with torch.inference_mode():
                    several = tuple(t.repeat_interleave(copies, dim=0) for t in tensors)
                    made = call_unchanged(called, several)
                return {spec.name: plain(made[spec.name]) for spec in outputs}

            return of_one_row(call, outputs)

        return run


def plain(tensor: torch.Tensor) -> Array:
    """A tensor as an array; bfloat16 widened, since numpy has none."""
    import torch

    tensor = tensor.detach().cpu()
    array: Array = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    return array


def _featured(features: Features, row: Row) -> dict[str, Any]:
    """One row behind the features, by their outputs."""
    given = [[row[spec.name]] for spec in features.inputs]
    made = features.computation().run(given)
    return {s.name: values[0] for s, values in zip(features.outputs, made, strict=True)}


def _tensor(row: Row, spec: TensorSpec) -> torch.Tensor:
    import torch

    array = batch_of_one(row, spec)
    if spec.dtype == "bfloat16":
        return torch.from_numpy(array.astype(np.uint16)).view(torch.bfloat16)
    return torch.from_numpy(array).to(getattr(torch, spec.dtype))
