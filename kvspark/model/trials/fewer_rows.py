"""Would a stage give its rows the same bits in a call of fewer rows? Tried operator by operator.

A call is made as always, and each operator of it once more with the first few of its rows. Where a library adds in
another order for few rows, nearly every number differs; where not one of thousands does, at any operator, both calls
compute each row in the same way. What values may hide is not left to them:

- rows may be copies of one row, and what is masked adds nothing: so each operator is tried with random numbers
  as well, in the place of what it takes of the rows;
- a vector loop computes what is left over at its end in another way. So what an operator gives for the few rows
  must fill whole pairs of vectors, unless each number is rounded once (a sum, a product) or it adds along a row;
- an operator that gives a few numbers only is tried with all rows of the call, a few at a time;
- a library chooses by shape: of operators whose arguments have equal shapes the first is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import fx
from torch.fx.node import Target

PAIR_BYTES = 128
"""Two of the widest vectors (AVX-512), which loops take at a time."""

_POOL = 1 << 18
"""Random numbers that operators are tried with, again and again: to draw them takes as long as to call most."""

_FEW = 1_024
"""Numbers that are too few to show a difference for sure: of a head with two classes two in five differed."""

_ROUNDED_ONCE = frozenset(
    "add sub rsub mul div neg abs relu sqrt clamp clamp_min clamp_max maximum minimum where masked_fill "
    "to _to_copy clone copy lift_fresh_copy full full_like zeros zeros_like ones ones_like new_zeros new_ones "
    "new_full arange scalar_tensor eq ne lt le gt ge logical_not logical_and logical_or isnan isinf bitwise_not "
    "embedding gather index index_select select slice expand expand_as view _unsafe_view reshape transpose permute t "
    "unsqueeze squeeze flatten unflatten cat stack split split_with_sizes chunk unbind narrow pad constant_pad_nd "
    "contiguous alias detach detach_ repeat tril triu flip roll".split()
)
"""Operators that round each number once, or move it: no order of adding, no approximation."""

_ALONG_A_ROW = frozenset(
    "linear matmul mm bmm addmm baddbmm conv1d conv2d conv3d convolution scaled_dot_product_attention "
    "layer_norm native_layer_norm group_norm batch_norm softmax _softmax log_softmax sum mean amax amin max min "
    "argmax argmin linalg_vector_norm norm var std avg_pool2d adaptive_avg_pool2d max_pool2d any all".split()
)
"""Operators that add, or compare, along each row for itself."""


@final
@dataclass(frozen=True, slots=True)
class _Sized:
    """A value of the whole call, and what it is for fewer rows, by their number."""

    whole: Any
    fewer: Mapping[int, Any]


def with_fewer_rows(
    program: fx.GraphModule, tensors: Sequence[torch.Tensor], sizes: Sequence[int]
) -> tuple[tuple[torch.Tensor, ...], tuple[int, ...]]:
    """What `program` gives for `tensors`, and those of `sizes`, rows of a call, that would not change a bit of it.

    `sizes` are smaller than the rows of `tensors`, and divide them.
    """
    trial = _Trial(program, rows=len(tensors[0]), sizes=sizes)
    given = [_Sized(each, {size: each[:size].clone() for size in sizes}) for each in tensors]
    made = trial.run(*given, enable_io_processing=False)
    results = tuple(each.whole if isinstance(each, _Sized) else each for each in made)
    return results, tuple(size for size in sizes if size in trial.left)


@final
class _Trial(fx.Interpreter):
    """Runs a program on values of several sizes at once."""

    def __init__(self, program: fx.GraphModule, *, rows: int, sizes: Sequence[int]) -> None:
        super().__init__(program)
        self.extra_traceback = False  # an error is what it is without the trial
        self.left = set(sizes)
        """The sizes at which no bit has differed so far."""
        self._rows = rows
        self._known: dict[object, int | None] = {}
        """By operator and shapes, what was tried: how long its result is, if that is its rows."""
        self._numbers: tuple[Any, Any] | None = None
        """Of the operator that is called: random numbers, and what it gives for them in a whole call."""
        self._pool = torch.randn(_POOL, generator=torch.Generator().manual_seed(0))

    def call_function(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        assert callable(target)
        given = (args, kwargs)
        sized = [each for each in _leaves(given) if isinstance(each, _Sized)]
        whole = _called(target, _mapped(given, _of))
        if not sized or not self.left:
            return whole
        form = (target, _form(_mapped(given, _of)))
        fewer: dict[int, Any] = {}
        self._numbers = None
        for size in sorted(self.left):
            smaller = _mapped(given, partial(_of, size=size))
            own = (form, _form(smaller))
            length = self._known.get(own)
            if length is not None:
                fewer[size] = whole[:length]
                continue
            made = self._tried(target, given, smaller, whole, size)
            if made is None:
                self.left.discard(size)
                continue
            fewer[size] = made.value
            self._known[own] = made.length
        return _Sized(whole, fewer)

    def _tried(
        self, target: Callable[..., Any], given: Any, smaller: Any, whole: Any, size: int
    ) -> _Made | None:
        """What `target` gives for `size` rows; None if that is not what it gives for them among all."""
        try:
            made = _called(target, smaller)
            if not _agree(whole, made, size, self._rows):
                return None
            for result in _leaves(made):
                if not _is_safe(target, given, result):
                    return None
            if _is_few(made) and not self._agree_in_parts(target, given, whole, made, size):
                return None
            if not self._agree_on_numbers(target, given, size):
                return None
        except Exception:  # noqa: BLE001 - whatever it is, the whole call has not raised it
            return None
        # Cut off the whole, it must lie in memory as it does by itself.
        is_by_row = (
            isinstance(made, torch.Tensor)
            and _place(whole, made, size, self._rows) == 0
            and whole.stride() == made.stride()
        )
        return _Made(made, len(made) if is_by_row else None)

    def _agree_on_numbers(self, target: Callable[..., Any], given: Any, size: int) -> bool:
        """True if `target` gives random numbers the same bits in both calls."""
        if self._numbers is None:
            drawn = _mapped(given, partial(_drawn, rows=self._rows, pool=self._pool))
            self._numbers = drawn, _called(target, _mapped(drawn, _of))
        drawn, whole = self._numbers
        made = _called(target, _mapped(drawn, partial(_taken, size=size, rows=self._rows)))
        if not _agree(whole, made, size, self._rows):
            return False
        return not _is_few(made) or self._agree_in_parts(target, drawn, whole, made, size)

    def _agree_in_parts(
        self, target: Callable[..., Any], given: Any, whole: Any, made: Any, size: int
    ) -> bool:
        """True if all rows, `size` at a time, have the bits that they have in the whole call."""
        for part in range(1, self._rows // size):
            take = partial(_part, size=size, part=part, rows=self._rows)
            other = _called(target, _mapped(given, take))
            expected = _part(_Sized(whole, {size: made}), size, part, self._rows)
            if not _same(expected, other):
                return False
        return True


@final
@dataclass(frozen=True, slots=True)
class _Made:
    value: Any
    length: int | None
    """Of its first dimension, if that counts the rows."""


def _called(target: Callable[..., Any], given: Any) -> Any:
    return target(*given[0], **given[1])


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _leaves(each)
    else:
        yield value


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_mapped(each, change) for each in value)
    if isinstance(value, dict):
        return {name: _mapped(each, change) for name, each in value.items()}
    return change(value)


def _of(value: Any, size: int | None = None) -> Any:
    if not isinstance(value, _Sized):
        return value
    return value.whole if size is None else value.fewer[size]


def _drawn(value: Any, rows: int, pool: torch.Tensor) -> Any:
    """`value` with numbers of `pool` in the place of its own, in memory as they are, if it has rows."""
    whole = value.whole if isinstance(value, _Sized) else None
    if not isinstance(whole, torch.Tensor) or not whole.is_floating_point() or not value.fewer:
        return value
    size, fewer = next(iter(value.fewer.items()))
    if (_place(whole, fewer, size, rows) or 0) < 0:
        return value
    numbers = pool.repeat(-(-whole.numel() // len(pool)))[: whole.numel()].view(whole.shape)
    return _Sized(torch.empty_like(whole).copy_(numbers), value.fewer)


def _taken(value: Any, size: int, rows: int) -> Any:
    """What `_drawn` gave, of the first rows."""
    fewer = _of(value, size)
    if not isinstance(value, _Sized) or not isinstance(fewer, torch.Tensor):
        return fewer
    place = _place(value.whole, fewer, size, rows) if fewer.is_floating_point() else None
    if place is None or place < 0:
        return fewer
    return torch.empty_like(fewer).copy_(value.whole.narrow(place, 0, fewer.shape[place]))


def _form(value: Any) -> object:
    """What a library may choose by: shapes, strides and types, and numbers as they are."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.stride(), value.dtype
    if isinstance(value, list | tuple):
        return tuple(_form(each) for each in value)
    if isinstance(value, dict):
        return tuple((name, _form(each)) for name, each in value.items())
    return type(value).__name__, repr(value)


def _place(whole: torch.Tensor, fewer: torch.Tensor, size: int, rows: int) -> int | None:
    """The dimension that counts the rows, alone or with others behind them; -1 if none does, None if it is unclear."""
    if whole.dim() != fewer.dim():
        return None
    differ = [n for n in range(whole.dim()) if whole.shape[n] != fewer.shape[n]]
    if not differ:
        return -1
    if len(differ) > 1 or whole.shape[differ[0]] * size != fewer.shape[differ[0]] * rows:
        return None
    return differ[0]


def _part(value: Any, size: int, part: int, rows: int) -> Any:
    """`value` for the rows of one part of the call.

    Raises:
        ValueError: it is not clear which they are.
    """
    if not isinstance(value, _Sized) or not isinstance(value.whole, torch.Tensor):
        return _of(value, size)
    fewer = value.fewer[size]
    place = _place(value.whole, fewer, size, rows)
    if place is None:
        raise ValueError("rows in no dimension of their own")
    if place < 0:
        return fewer
    length = fewer.shape[place]
    return value.whole.narrow(place, part * length, length)


def _agree(whole: Any, fewer: Any, size: int, rows: int) -> bool:
    """True if `fewer` is what `whole` says of the first rows, bit for bit."""
    pairs = list(zip(_leaves(whole), _leaves(fewer), strict=True))
    return all(_same(_part(_Sized(a, {size: b}), size, 0, rows), b) for a, b in pairs)


def _same(expected: Any, got: Any) -> bool:
    if not isinstance(expected, torch.Tensor):
        return not isinstance(got, torch.Tensor)  # a size
    if expected.shape != got.shape or expected.dtype != got.dtype:
        return False
    if not expected.is_floating_point():
        return bool(torch.equal(expected, got))
    bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[expected.itemsize]
    return bool(torch.equal(expected.contiguous().view(bits), got.contiguous().view(bits)))


def _is_few(made: Any) -> bool:
    return any(
        isinstance(each, torch.Tensor) and each.is_floating_point() and each.numel() < _FEW
        for each in _leaves(made)
    )


def _is_safe(target: Callable[..., Any], given: Any, made: Any) -> bool:
    """False if the end of what `target` gives may be computed in another way than the rest, unseen."""
    if not isinstance(made, torch.Tensor) or not made.is_floating_point():
        return True
    if made.numel() * made.itemsize % PAIR_BYTES == 0:
        return True
    if not isinstance(target, torch._ops.OpOverload):
        return True  # takes an item of a tuple
    name = target._opname
    return (name in _ROUNDED_ONCE and "alpha" not in given[1]) or name in _ALONG_A_ROW
