"""Recurrent layers of Keras in a form that torch.export captures for any number of rows.

Keras runs a recurrent layer with a mask, or with a cell of its own, in a loop that makes a Python list
of the rows, so torch.export writes their number into the graph. Its unrolled form has the same
operators in the same order and makes no such list.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

_BACKEND_MODULE = "keras.src.backend"


@contextmanager
def unrolled_loops() -> Iterator[None]:
    """While it is entered, Keras unrolls its loops over time; the results keep their bits."""
    backend: Any = sys.modules.get(_BACKEND_MODULE)
    loop = getattr(backend, "rnn", None)
    if (
        loop is None
    ):  # another release of Keras: its own loop, and a refusal where it cannot be captured
        yield
        return
    backend.rnn = _unrolled(loop)
    try:
        yield
    finally:
        backend.rnn = loop


def _unrolled(loop: Callable[..., Any]) -> Callable[..., Any]:
    def run(
        step: Callable[..., Any],
        inputs: Any,
        states: Any,
        go_backwards: bool = False,  # noqa: FBT001, FBT002 - Keras' signature
        mask: torch.Tensor | None = None,
        **options: Any,
    ) -> Any:
        nested = sys.modules["keras"].tree
        time = 0 if options.get("time_major") else 1
        if go_backwards:
            # Keras' unrolled form cannot turn a mask round.
            inputs = nested.map_structure(lambda given: torch.flip(given, [time]), inputs)
            mask = None if mask is None else torch.flip(mask, [time])
        return loop(step, inputs, states, mask=mask, **{**options, "unroll": True})

    return run
