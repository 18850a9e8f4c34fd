"""Why torch.export could not capture a module, in words that lead to the line to change."""

from __future__ import annotations

import linecache
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from traceback import walk_tb
from types import FrameType, TracebackType

import torch

from kvspark.errors import ExportError
from kvspark.model.operators import WRAPPER

Dims = tuple[dict[int, object], ...]
"""For each input: the dimensions that are free, and how."""


def refusal(
    wrapper: torch.nn.Module,
    names: Sequence[str],
    examples: tuple[torch.Tensor, ...],
    free: Dims,
    error: Exception,
    export: Callable[[Dims], torch.export.ExportedProgram],
) -> ExportError:
    """The refusal of `wrapper`, which `export` could not capture with `free` because of `error`.

    Runs the module once as it is, and exports it once more with sizes that may become fixed, to
    tell a model that fails anyway, or that has a size written into it, from one that has another
    reason; names the module and the line where there is one.
    """
    module = wrapper.get_submodule(WRAPPER)
    kind = type(module).__name__
    try:
        with torch.no_grad():
            wrapper(*(tensor.clone() for tensor in examples))
    except ExportError as refused:
        return refused
    except Exception as failed:  # noqa: BLE001 - the module's own code raises what it likes
        return ExportError(
            f"{kind} fails on the example inputs{_where(module, failed)}: {_first_line(failed)}; "
            "pass examples that it takes"
        )
    fixed = _fixed_size(names, free, export)
    if fixed:
        return ExportError(
            f"{kind} works with {fixed} only; write its code for any size (x.size(0) or -1, "
            "not a number), or leave the input out of variable_length if it is its length"
        )
    return ExportError(
        f"torch.export cannot capture {kind}{_where(module, error)}: {_first_line(error)}; "
        "rewrite that line without Python that depends on values, and with torch's own operators"
    )


def _fixed_size(
    names: Sequence[str], free: Dims, export: Callable[[Dims], torch.export.ExportedProgram]
) -> str:
    """The size that the module insists on, "" if there is none, or if it cannot be told."""
    automatic = tuple(dict.fromkeys(dims, torch.export.Dim.AUTO) for dims in free)
    try:
        program = export(automatic)
    except Exception:  # noqa: BLE001 - whatever it is, it is not a fixed size
        return ""
    inputs = set(program.graph_signature.user_inputs)
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in inputs]
    for name, node, dims in zip(names, nodes, free, strict=True):
        for dim in dims:
            size = node.meta["val"].shape[dim]
            # A size that was free and became fixed is a SymInt without symbols.
            if isinstance(size, int) or not size.node.expr.free_symbols:
                what = f"{int(size)} rows" if dim == 0 else f"a length of {int(size)}"
                return f"{what} of input {name!r}"
    return ""


def _where(module: torch.nn.Module, error: BaseException) -> str:
    """The innermost module, and its line, in which `error` was raised; "" if it was in none."""
    paths = {id(part): path for path, part in module.named_modules()}
    found = ""
    for frame, line in _frames(error):
        name, file = frame.f_code.co_name, frame.f_code.co_filename
        owner = next((frame.f_locals.get(first) for first in frame.f_code.co_varnames[:1]), None)
        path = paths.get(id(owner))
        # Only a module's own methods: our functions hold it as an argument, torch calls it.
        if path is None or not hasattr(type(owner), name) or name.endswith("_call_impl"):
            continue
        found = f" at {path or 'the top of the model'}"
        text = linecache.getline(file, line).strip()
        if text:
            found += f" ({Path(file).name}, line {line}: {text})"
    return found


def _frames(error: BaseException) -> Iterator[tuple[FrameType, int]]:
    chain: list[TracebackType | None] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    for trace in chain[::-1]:
        yield from walk_tb(trace)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
