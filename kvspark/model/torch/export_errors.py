"""Why torch.export could not capture a module, in words that lead to the line to change."""

from __future__ import annotations

import io
import linecache
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from traceback import walk_tb
from types import FrameType, TracebackType
from typing import final

import torch

from kvspark.errors import ExportError
from kvspark.model.run.operators import WRAPPER
from kvspark.model.run.outputs import call_unchanged

_HINTS = "torch.fx.experimental.symbolic_shapes"
"""The logger to which torch.export tells more than its error says."""

_MOST = 160
"""Characters of what torch says."""

OWN_FILE = "kvspark_own_file"
"""An attribute of modules that were read from a file: its name, by which their owner knows them."""

Dims = tuple[dict[int, object], ...]
"""For each input: the dimensions that are free, and how."""


def check_runs(wrapper: torch.nn.Module, examples: tuple[torch.Tensor, ...]) -> None:
    """Does nothing if `wrapper` takes the `examples` as it is.

    Raises:
        ExportError: it fails; names the module, the line and what torch says.
    """
    module = wrapper.get_submodule(WRAPPER)
    try:
        _run(wrapper, examples)
    except ExportError:
        raise
    except Exception as failed:  # the module's own code raises what it likes
        raise ExportError(
            f"{_called(module)} fails on the example inputs{_where(module, failed)}: "
            f"{_first_line(failed)[:_MOST]}; pass examples that it takes"
        ) from failed


def _called(module: torch.nn.Module) -> str:
    """What its owner calls `module`: its file, where a file was read into a class of ours."""
    file = getattr(module, OWN_FILE, None)
    return file if isinstance(file, str) else type(module).__name__


def _run(wrapper: torch.nn.Module, examples: Sequence[torch.Tensor]) -> None:
    with torch.no_grad():
        call_unchanged(wrapper, tuple(tensor.clone() for tensor in examples))


def refusal(
    wrapper: torch.nn.Module,
    names: Sequence[str],
    examples: tuple[torch.Tensor, ...],
    free: Dims,
    error: Exception,
    export: Callable[[Dims], torch.export.ExportedProgram],
) -> ExportError:
    """The refusal of `wrapper`, which `export` could not capture with `free` because of `error`.

    Exports it once more with sizes that may become fixed, to tell a model that has a size written into
    it from one that has another reason; names the module and the line where there is one.
    """
    module = wrapper.get_submodule(WRAPPER)
    kind = _called(module)
    fixed = _fixed_size(names, free, export)
    if fixed is not None:
        return _of_one_size(wrapper, kind, fixed, examples)
    return ExportError(
        f"torch.export cannot capture {kind}{_where(module, error)}: {_first_line(error)[:_MOST]}; "
        "rewrite that line without Python that depends on values, and with torch's own operators"
    )


def _of_one_size(
    wrapper: torch.nn.Module, kind: str, fixed: _Fixed, examples: tuple[torch.Tensor, ...]
) -> ExportError:
    """The refusal of a graph of one size, of a module that may take others."""
    advice = "write its code for any size (x.size(0) or -1, not a number)"
    if fixed.dim:
        advice += ", or leave the input out of variable_length if it is its length"
    if not _takes_another(wrapper, fixed, examples):
        return ExportError(f"{kind} works with {fixed} only; {advice}")
    return ExportError(
        f"{kind} takes any size, but torch.export writes {fixed} into its graph: somewhere the size "
        "becomes a Python number or list (for row in x, list(x), int(x.size(0)), range); "
        + ("use operators on the whole tensor there" if fixed.dim == 0 else advice)
    )


def _takes_another(
    wrapper: torch.nn.Module, fixed: _Fixed, examples: tuple[torch.Tensor, ...]
) -> bool:
    """True if the module itself runs with one more row, or one more value of its length."""
    larger = [
        torch.cat([tensor, tensor.narrow(dim, 0, 1)], dim) if dim is not None else tensor
        for tensor, dim in zip(examples, fixed.dims, strict=True)
    ]
    try:
        _run(wrapper, larger)
    except Exception:  # noqa: BLE001 - whatever it is, it does not take them
        return False
    return True


@final
@dataclass(frozen=True, slots=True)
class _Fixed:
    """A size that was to be free, and is a number in the graph."""

    name: str
    dim: int
    size: int
    dims: tuple[int | None, ...]
    """Of each input, the dimension that has to follow if this one changes."""

    def __str__(self) -> str:
        what = f"a length of {self.size}" if self.dim else f"{self.size} rows"
        return f"{what} of input {self.name!r}"


def _fixed_size(
    names: Sequence[str], free: Dims, export: Callable[[Dims], torch.export.ExportedProgram]
) -> _Fixed | None:
    """The size that the module insists on, None if there is none, or if it cannot be told."""
    automatic = tuple(dict.fromkeys(dims, torch.export.Dim.AUTO) for dims in free)
    try:
        program = export(automatic)
    except Exception:  # noqa: BLE001 - whatever it is, it is not a fixed size
        return None
    inputs = set(program.graph_signature.user_inputs)
    nodes = [n for n in program.graph.nodes if n.op == "placeholder" and n.name in inputs]
    for name, node, dims in zip(names, nodes, free, strict=True):
        for dim in dims:
            size = node.meta["val"].shape[dim]
            # A size that was free and became fixed is a SymInt without symbols.
            if isinstance(size, int) or not size.node.expr.free_symbols:
                follow = tuple(dim if dim in others else None for others in free)
                return _Fixed(name, dim, int(size), follow)
    return None


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


@contextmanager
def quiet_failures() -> Iterator[None]:
    """Inside it stderr is held back: written behind it, or dropped where it ends in an error, which says what is wrong.

    torch.export writes the graph there, as far as it came.
    """
    held, hints = io.StringIO(), logging.getLogger(_HINTS)
    before = hints.level
    hints.setLevel(logging.ERROR)
    try:
        with redirect_stderr(held):
            yield
    finally:
        hints.setLevel(before)
    sys.stderr.write(held.getvalue())
