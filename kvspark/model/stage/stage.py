"""A stage: one pure function of a model, with its address and its place in the DAG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

from kvspark.display import table
from kvspark.fingerprint import FORMAT_VERSION, Canonical, Fingerprint, digest
from kvspark.model.stage.library import build_of
from kvspark.spec import LengthRule, MicroBatch, TensorSpec

_BATCHED = frozenset({"graph", "onnx", "callable", "torchscript"})
"""Kinds whose bits depend on the shape of a call; a tokenizer's do not."""


@final
@dataclass(frozen=True, slots=True)
class Source:
    """Where one argument of a stage comes from."""

    tensor: TensorSpec
    stage: str | None = None
    """The upstream stage that gives it; None for an input of the model."""
    pad: int = 0
    """What fills a varying dimension up to its bucket."""


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """A pure function of some of the model's inputs.

    Its result for a row depends on `fingerprint` and on the row's values of `inputs`, on nothing else.
    """

    name: str
    kind: str
    """`graph` for a program of torch operators, `onnx` for one of ONNX operators, `callable` for a
    function that is known by its name alone, `torchscript`, else the kind of its features (`text`, `image`, `audio`)."""
    inputs: tuple[str, ...]
    """The model inputs that reach this stage, in the model's order."""
    sources: tuple[Source, ...]
    """The arguments, in the order of the program's placeholders."""
    outputs: tuple[TensorSpec, ...]
    content: bytes
    """Digest of what it computes with: graph, weights and buffers, or tokenizer files."""
    libraries: tuple[str, ...]
    """The distributions whose builds decide its bits; none where the content answers for them."""
    rows: int | None = None
    """Rows of its calls; None for as many as the micro-batch of the model has (`rows_of_call`)."""
    fingerprint: Fingerprint = Fingerprint(b"")

    @property
    def upstream(self) -> tuple[str, ...]:
        """Names of the stages whose results this one takes, in order of first use."""
        return tuple(dict.fromkeys(s.stage for s in self.sources if s.stage is not None))

    @property
    def is_batched(self) -> bool:
        """True if it is called in micro-batches of a fixed shape, and its bits follow the machine."""
        return self.kind in _BATCHED

    @property
    def bytes_per_row(self) -> int | None:
        """Bytes of one row's result; None where they vary."""
        sizes = [spec.bytes_per_row for spec in self.outputs]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def has_arithmetic(self) -> bool:
        """True if the machine decides its last bits too: it adds floats, in whatever order is fast there.

        A decoder of sound does; a tokenizer does not, nor does Pillow, which computes in integers.
        """
        return self.kind in _BATCHED or self.kind == "audio"

    @property
    def has_lengths(self) -> bool:
        """True if an argument has a varying dimension, so that its rows are grouped by bucket."""
        return any(None in source.tensor.shape for source in self.sources)

    def shape(self, micro_batch: MicroBatch) -> MicroBatch:
        """The micro-batches in which it is called, where those of the model are `micro_batch`."""
        return micro_batch if self.rows is None else replace(micro_batch, rows=self.rows)

    def __repr__(self) -> str:
        size = "bytes vary" if self.bytes_per_row is None else f"{self.bytes_per_row:,} bytes a row"
        reached = ", ".join(self.inputs)
        return f"Stage({self.name!r}, {self.kind}, {self.fingerprint.hex()[:12]}, of {reached}, {size})"

    def _repr_html_(self) -> str:
        size = "varies" if self.bytes_per_row is None else f"{self.bytes_per_row:,}"
        rows = [
            ("kind", self.kind),
            ("inputs that reach it", ", ".join(self.inputs)),
            ("takes", ", ".join(self.upstream) or "inputs alone"),
            ("bytes a row", size),
            ("rows a call", "as the model" if self.rows is None else f"{self.rows:,}"),
            ("fingerprint", self.fingerprint.hex()),
        ]
        return table(("stage", self.name), rows, texts=2)


def fingerprinted(
    stages: Sequence[Stage], micro_batch: MicroBatch, rule: LengthRule, device: str = "cpu"
) -> tuple[Stage, ...]:
    """The same stages with their fingerprints: a Merkle DAG over content, shape class and build.

    `stages` is in topological order; `device` is the class of device that computes graphs. Names of stages, inputs and outputs do not count, what is
    wired to what does: two models that share a trunk share its fingerprint.
    """
    done: dict[str, Stage] = {}
    for stage in stages:
        value: Canonical = {
            "format": FORMAT_VERSION,
            "content": stage.content,
            "device": device if stage.kind == "graph" else "cpu",
            "build": ", ".join(map(build_of, stage.libraries)),
            "shape": _shape_class(stage, micro_batch, rule),
            "sources": [_wiring(stage, source, done) for source in stage.sources],
            "outputs": [[spec.dtype, list(spec.shape)] for spec in stage.outputs],
        }
        done[stage.name] = replace(stage, fingerprint=digest("kvspark.stage", value))
    return tuple(done.values())


def _shape_class(stage: Stage, micro_batch: MicroBatch, rule: LengthRule) -> Canonical:
    if not stage.is_batched:
        return None
    if not stage.has_lengths:
        return [stage.shape(micro_batch).rows]
    shapes: list[Canonical] = [micro_batch.rows, micro_batch.tokens]
    if rule.is_exact:
        shapes.append("exact lengths")
    elif not rule.pads_empty:
        shapes.append("length 0 as it is")
    return shapes


def _wiring(stage: Stage, source: Source, done: dict[str, Stage]) -> Canonical:
    place = {name: position for position, name in enumerate(stage.inputs)}
    spec: Canonical = [source.tensor.dtype, list(source.tensor.shape), source.pad]
    if source.stage is None:
        return ["input", place[source.tensor.name], spec]
    upstream = done[source.stage]
    tensor = [output.name for output in upstream.outputs].index(source.tensor.name)
    reached: Canonical = [place[name] for name in upstream.inputs]
    return ["stage", upstream.fingerprint, reached, tensor, spec]
