"""Which values of an ONNX graph are its outputs, and why some cannot be."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import onnx

from kvspark.errors import ExportError
from kvspark.model.stage.names import names_of
from kvspark.spec import TensorSpec


def output_specs(
    graph: onnx.GraphProto, specs: Mapping[str, TensorSpec], chosen: Sequence[str] | None
) -> tuple[TensorSpec, ...]:
    """The outputs of `graph`, or the values that are `chosen` instead, in their order.

    Raises:
        ExportError: no column can hold one of them, one stands there twice, or the graph has no such value; says what
            to do.
    """
    if chosen is None:
        names = [value.name for value in graph.output]
        _check_once(names)
    else:
        names = list(dict.fromkeys(names_of("outputs", chosen)))
        _check_known(graph, names)
    return tuple(_spec(graph, name, specs) for name in names)


def _check_once(names: Sequence[str]) -> None:
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ExportError(
            f"output {twice!r} stands {names.count(twice)} times among the outputs of the file, and a column has one "
            f"name; name each once: Model.from_onnx(path, outputs={[*dict.fromkeys(names)]!r})"
        )


def _check_known(graph: onnx.GraphProto, names: Sequence[str]) -> None:
    own = [value.name for value in graph.output]
    known = [name for node in graph.node for name in node.output if name]
    if not names:
        raise ExportError(f"outputs is empty; keep one of {', '.join(own)}")
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            advice = f"; did you mean {near[0]!r}?" if near else ""
            raise ExportError(
                f"outputs names {name!r}, which is no value of the graph (its outputs: {', '.join(own)})"
                f"{advice}"
            )


def _spec(graph: onnx.GraphProto, name: str, specs: Mapping[str, TensorSpec]) -> TensorSpec:
    if name in specs:
        return specs[name]
    others = [value.name for value in graph.output if value.name in specs]
    node = next((node for node in graph.node if name in node.output), None)
    if node is not None and node.op_type == "ZipMap":
        # What it makes a dictionary of is a plain tensor.
        others += [value for value in node.input if value in specs and value not in others]
        raise ExportError(
            f"output {name!r} is a list of dictionaries (ZipMap), which no column can hold; convert the model "
            f"with zipmap=False{_leave_out(others)}"
        )
    kind = _kind(graph, name)
    if kind == "text":
        raise ExportError(
            f"output {name!r} is text, and an output is made of numbers; train the model with integer "
            f"labels{_leave_out(others)}"
        )
    raise ExportError(
        f"output {name!r} has no row for each row of the inputs, or a dtype that no column can hold, so rows "
        f"cannot be told apart{_leave_out(others)}"
    )


def _kind(graph: onnx.GraphProto, name: str) -> str:
    for value in graph.output:
        if value.name == name and value.type.HasField("tensor_type"):
            return "text" if value.type.tensor_type.elem_type == onnx.TensorProto.STRING else ""
    return ""


def _leave_out(others: Sequence[str]) -> str:
    if not others:
        return ""
    return f", or leave it out: Model.from_onnx(path, outputs={others!r})"
