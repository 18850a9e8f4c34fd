"""Calls of fewer rows: those that would change a bit are found, and those that might are not believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import fx

from kvspark.model.trials.fewer_rows import with_fewer_rows
from tests.small_models import Encoder, seeded

ROWS = 32
aten = torch.ops.aten


def program_of(*operators: Callable[..., Any]) -> fx.GraphModule:
    """Calls one operator after the other on the result of the one before."""
    graph = fx.Graph()
    value = graph.placeholder("x")
    for operator in operators:
        value = graph.call_function(operator, (value,))
    graph.output((value,))
    return fx.GraphModule({}, graph)


def exported(module: torch.nn.Module, *examples: torch.Tensor) -> fx.GraphModule:
    """The program of `module`, for any number of rows."""
    rows = torch.export.Dim("rows", min=2, max=4096)
    shapes = tuple({0: rows} for _ in examples)
    program = torch.export.export(seeded(module), examples, dynamic_shapes=shapes)
    return program.module(check_guards=False)


def found(*operators: Callable[..., Any], shape: tuple[int, ...] = (64,)) -> tuple[int, ...]:
    """The sizes of 2, 8 and 16 rows that are believed."""
    x = torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        return with_fewer_rows(program_of(*operators), [x], (2, 8, 16))[1]


def test_the_results_are_those_of_the_program() -> None:
    ids = torch.randint(0, 50, (ROWS, 12))
    module = exported(Encoder(), ids, torch.ones_like(ids))
    given = [ids, torch.ones_like(ids)]
    with torch.inference_mode():
        made, _ = with_fewer_rows(module, given, (2, 4))
        assert torch.equal(made[0], module(*given))


@pytest.mark.parametrize("length", [8, 12, 20, 32])
def test_what_is_believed_holds_for_other_rows(length: int) -> None:
    layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
    module = exported(layer, torch.randn(3, length, 64))
    generator = torch.Generator().manual_seed(length)
    with torch.inference_mode():
        first = torch.randn(ROWS, length, 64, generator=generator)
        _, sizes = with_fewer_rows(module, [first], (2, 4, 8, 16))
        for _ in range(4):
            given = torch.randn(ROWS, length, 64, generator=generator)
            whole = module(given)
            for size in sizes:
                for start in range(0, ROWS, size):
                    part = module(given[start : start + size].clone())
                    assert torch.equal(part, whole[start : start + size])


def test_an_operator_that_adds_in_another_order_for_few_rows_is_found() -> None:
    def added(x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(-1) if len(x) > 8 else x.flip(-1).cumsum(-1)

    assert found(aten.relu.default, added) == (16,)


def test_an_operator_that_differs_in_few_values_is_found_where_it_gives_few_numbers() -> None:
    rare = torch.randn(ROWS, 64, generator=torch.Generator().manual_seed(3))[20].sum()

    def total(x: torch.Tensor) -> torch.Tensor:
        made = x.sum(-1, keepdim=True)
        return made if len(x) == ROWS else torch.where(made == rare, made + 1, made)

    assert found(total) == ()
    assert found(lambda x: x.sum(-1, keepdim=True)) == (2, 8, 16)


def test_rows_that_hide_the_order_of_adding_are_not_all_that_is_tried() -> None:
    """Copies of one row, of which all but two numbers are masked: any order gives their sum."""

    def added(x: torch.Tensor) -> torch.Tensor:
        return x.sum(-1) if len(x) == ROWS else x[:, ::2].sum(-1) + x[:, 1::2].sum(-1)

    row = torch.zeros(64)
    row[:2] = torch.tensor([0.3, 0.7])
    copies = row.expand(ROWS, 64).contiguous()
    with torch.inference_mode():
        assert torch.equal(added(copies)[:2], added(copies[:2]))
        assert with_fewer_rows(program_of(added), [copies], (2, 8, 16))[1] == ()


def test_rows_that_change_each_other_are_found() -> None:
    assert found(lambda x: x - x.mean(0)) == ()


def test_a_vector_loop_with_a_rest_is_not_believed_though_no_bit_differs() -> None:
    assert found(aten.sigmoid.default, shape=(5,)) == ()
    assert found(aten.sigmoid.default, shape=(8,)) == (8, 16)
    assert found(aten.sigmoid.default) == (2, 8, 16)
    assert found(aten.relu.default, shape=(5,)) == (2, 8, 16)


def test_an_operator_that_takes_no_few_rows_is_no_error() -> None:
    def many(x: torch.Tensor) -> torch.Tensor:
        if len(x) < 16:
            raise ValueError("too few")
        return x + 1

    assert found(many) == (16,)


def test_what_the_program_raises_is_raised_as_it_is() -> None:
    def never(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("no such row")

    with pytest.raises(ValueError, match=r"^no such row$"):
        found(never)


def test_a_length_that_is_also_the_number_of_rows_is_told_from_it() -> None:
    def places(x: torch.Tensor) -> torch.Tensor:
        return torch.arange(x.shape[1], dtype=x.dtype).expand(len(x), -1) + 1

    assert found(places, aten.relu.default, shape=(ROWS,)) == (2, 8, 16)
