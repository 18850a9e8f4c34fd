"""A program: the operators of one stage as data, and the callable that is made of it.

    {"format": 1, "arguments": 2, "weights": [true, false], "nodes": [[operator, [argument, ...], {name: argument}], ...],
     "outputs": [argument, ...]}

An argument is a JSON number (integers only), text, true, false, null, a list, or a mapping with one key:

    {"n": i} result of node i      {"a": i} argument i of the program     {"w": i} weight i
    {"f": hex} float (C99 hex)     {"dtype": name}   {"layout": name}     {"memory_format": name}
    {"device": null} the device that the program runs on

Nodes are in the order of execution and hold no names, so equal computations have equal bytes. The
weights are apart: `{"w": i}` is the i-th distinct tensor in the order of first use, and `weights` tells
which are parameters. That is part of the program because torch multiplies by a tensor that requires a
gradient in another way (matmul folds batches), which can change the last bit even without gradients.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, final

import torch
from torch import fx

from kvspark.errors import BundleError, ExportError
from kvspark.model.run.operators import (
    check_repeatable,
    module_path,
    operator_name,
    resolve_operator,
)

FORMAT = 1
PASSING = ("aten.dropout.default", "aten.detach_.default")
"""Operators that give their argument: without gradients, and switched off as check_repeatable sees."""
_TORCH_VALUES = {
    "dtype": torch.dtype,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
}


@final
@dataclass(frozen=True, slots=True)
class Slice:
    """The part of an exported graph that one stage computes."""

    nodes: tuple[fx.Node, ...]
    """In the order of execution."""
    arguments: tuple[fx.Node, ...]
    """Inputs of the model and results of upstream stages."""
    outputs: tuple[fx.Node, ...]
    sizes: tuple[tuple[fx.Node, fx.Node, int], ...] = ()
    """Symbolic sizes that are read off an argument: (size, argument, dimension)."""


def encode_program(part: Slice) -> tuple[bytes, list[torch.Tensor]]:
    """The program of `part` as canonical JSON, and its distinct weights in order of first use.

    Raises:
        ExportError: an operator or an argument that a program cannot hold.
    """
    encoder = _Encoder(part)
    for node in part.nodes:
        encoder.add(node)
    program = {
        "format": FORMAT,
        "arguments": len(part.arguments),
        "weights": encoder.are_parameters,
        "nodes": encoder.lines,
        "outputs": [encoder.argument(node) for node in part.outputs],
    }
    return json.dumps(program, sort_keys=True, separators=(",", ":")).encode(), encoder.weights


def tensor_digest(tensor: torch.Tensor) -> bytes:
    """BLAKE2b-256 of a tensor's dtype, shape and bytes (contiguous, little-endian)."""
    plain = tensor.detach().cpu().contiguous()
    hasher = blake2b(digest_size=32, person=b"kvspark.tensor")
    hasher.update(f"{plain.dtype} {tuple(plain.shape)} ".encode())
    hasher.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.digest()


def build_program(
    encoded: bytes, weights: Sequence[torch.Tensor], device: torch.device
) -> Callable[..., tuple[torch.Tensor, ...]]:
    """The callable of a program: takes its arguments, returns the tuple of its outputs.

    Raises:
        BundleError: the bytes are not a program that this build can run.
    """
    try:
        program = json.loads(encoded)
        if program["format"] != FORMAT or len(program["weights"]) != len(weights):
            raise BundleError(f"a program of format {program['format']}, expected {FORMAT}")
        return _Builder(program, weights, device).module
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f"the graph of a stage is damaged ({type(error).__name__}); save the model again"
        ) from error


@final
class _Encoder:
    """Turns fx nodes into lines; nodes that only pass their argument on are left out."""

    def __init__(self, part: Slice) -> None:
        self.lines: list[list[Any]] = []
        self.weights: list[torch.Tensor] = []
        self.are_parameters: list[bool] = []
        self._weight_of: dict[tuple[bytes, bool], int] = {}
        self._known: dict[fx.Node, Any] = {n: {"a": i} for i, n in enumerate(part.arguments)}
        for size, argument, dim in part.sizes:
            self._line(size, "aten.sym_size.int", [self._known[argument], dim], {})

    def add(self, node: fx.Node) -> None:
        if node.op == "get_attr":
            return  # numbered where it is first used, whatever the order of the state dict
        check_repeatable(node)
        name = operator_name(node)
        if name in PASSING:
            self._known[node] = self.argument(node.args[0])
            return
        kwargs = {key: self.argument(value) for key, value in node.kwargs.items()}
        self._line(node, name, [self.argument(value) for value in node.args], kwargs)

    def _line(self, node: fx.Node, name: str, args: list[Any], kwargs: dict[str, Any]) -> None:
        self.lines.append([name, args, kwargs])
        self._known[node] = {"n": len(self.lines) - 1}

    def argument(self, value: Any) -> Any:
        if isinstance(value, fx.Node):
            if value.op == "get_attr" and value not in self._known:
                self._known[value] = {"w": self._weight(value)}
            return self._known[value]
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return {"f": value.hex()}
        if isinstance(value, list | tuple):
            return [self.argument(item) for item in value]
        if isinstance(value, torch.device):
            return {"device": None}
        for kind, type_ in _TORCH_VALUES.items():
            if isinstance(value, type_):
                return {kind: str(value).removeprefix("torch.")}
        raise ExportError(f"a {type(value).__qualname__} in the graph cannot be part of a stage")

    def _weight(self, node: fx.Node) -> int:
        tensor: Any = node.graph.owning_module
        for part in str(node.target).split("."):
            tensor = getattr(tensor, part)
        if not isinstance(tensor, torch.Tensor):
            raise ExportError(
                f"{module_path(node) or 'the model'} calls a nested graph ({node.target}); "
                "control flow and autocast regions cannot be part of a stage yet"
            )
        # Frozen or not, a parameter is one: a trunk that is frozen later keeps its fingerprint.
        is_parameter = isinstance(tensor, torch.nn.Parameter) and tensor.is_floating_point()
        key = (tensor_digest(tensor), is_parameter)
        if key not in self._weight_of:
            self._weight_of[key] = len(self.weights)
            self.weights.append(tensor.detach())
            self.are_parameters.append(is_parameter)
        return self._weight_of[key]


@final
class _Builder:
    """Builds the fx module of a program."""

    def __init__(
        self, program: Mapping[str, Any], weights: Sequence[torch.Tensor], device: torch.device
    ) -> None:
        self._device = device
        graph = fx.Graph()
        self._arguments = [graph.placeholder(f"a{i}") for i in range(program["arguments"])]
        self._weights = [graph.get_attr(f"w{i}") for i in range(len(weights))]
        self._nodes: list[fx.Node] = []
        for name, args, kwargs in program["nodes"]:
            values = tuple(self._value(item) for item in args)
            named = {key: self._value(item) for key, item in kwargs.items()}
            self._nodes.append(graph.call_function(resolve_operator(name), values, named))
        graph.output(tuple(self._value(item) for item in program["outputs"]))
        root = {
            f"w{i}": torch.nn.Parameter(weight.to(device))
            if flag
            else torch.nn.Buffer(weight.to(device))
            for i, (weight, flag) in enumerate(zip(weights, program["weights"], strict=True))
        }
        self.module = fx.GraphModule(root, graph)

    def _value(self, item: Any) -> Any:
        if isinstance(item, list):
            return [self._value(part) for part in item]
        if not isinstance(item, dict):
            return item
        ((kind, value),) = item.items()
        if kind in ("n", "a", "w"):
            return {"n": self._nodes, "a": self._arguments, "w": self._weights}[kind][value]
        if kind == "f":
            return float.fromhex(value)
        if kind == "device":
            return self._device
        found = getattr(torch, value)
        if not isinstance(found, _TORCH_VALUES[kind]):
            raise BundleError(f"{value!r} is not a {kind}")
        return found
