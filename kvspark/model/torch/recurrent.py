"""Recurrent layers over rows of any length: torch.export would unroll them for the example's one.

torch works out what an LSTM gives by running it step by step, which binds the graph to the number of steps. The
shapes of its results need no steps: as long as its input, as wide as its hidden state, once for each direction.
While a module is captured torch is told so; the operator in the graph, which runs later, is torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._C import DispatchKey

_KEYS = (DispatchKey.CompositeImplicitAutograd, DispatchKey.Autograd, DispatchKey.Meta)


@contextmanager
def recurrent_shapes() -> Iterator[None]:
    """Inside it the shapes of LSTM, GRU and RNN layers are known for every length of their input."""
    aten: Any = torch.ops.aten
    shapes: dict[Any, Callable[..., Any]] = {
        aten.lstm.input: _lstm,
        aten.gru.input: _one_state,
        aten.rnn_tanh.input: _one_state,
        aten.rnn_relu.input: _one_state,
    }
    before = {operator: dict(operator.py_kernels) for operator in shapes}
    try:
        for operator, shape in shapes.items():
            operator.py_kernels.update(dict.fromkeys(_KEYS, shape))
            _forget(operator)
        yield
    finally:
        for operator, kernels in before.items():
            operator.py_kernels.clear()
            operator.py_kernels.update(kernels)
            _forget(operator)


def _forget(operator: Any) -> None:
    """Makes torch look for the operator's kernels again."""
    operator._dispatch_cache.clear()  # noqa: SLF001 - there is no public way


def _lstm(given: torch.Tensor, states: Any, *rest: Any) -> tuple[torch.Tensor, ...]:
    hidden, cell = states
    return _series(given, hidden, rest), torch.empty_like(hidden), torch.empty_like(cell)


def _one_state(given: torch.Tensor, hidden: torch.Tensor, *rest: Any) -> tuple[torch.Tensor, ...]:
    return _series(given, hidden, rest), torch.empty_like(hidden)


def _series(given: torch.Tensor, hidden: torch.Tensor, rest: tuple[Any, ...]) -> torch.Tensor:
    _, _, _, _, _, is_bidirectional, _ = rest
    width = hidden.shape[-1] * (2 if is_bidirectional else 1)
    return given.new_empty((*given.shape[:-1], width))
