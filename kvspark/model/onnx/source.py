"""A bundle from an ONNX file: cut at named values, checked against the uncut session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from kvspark.errors import CutError, NotRepeatableError
from kvspark.fingerprint import digest
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.bundle.write import write_bundle
from kvspark.model.onnx.cut import LAST, OnnxPiece, cut_onnx
from kvspark.model.onnx.graph import OnnxGraph, example_arrays, read_graph
from kvspark.model.onnx.program import encode_piece
from kvspark.model.run.onnx_computation import MODEL_FILE, open_session
from kvspark.model.stage.stage import Source, Stage
from kvspark.model.torch.candidates import MOST_BYTES_PER_ROW
from kvspark.model.trials.captured import Captured
from kvspark.model.trials.tried import tried
from kvspark.spec import MicroBatch, TensorSpec

_AT_RUN_TIME = "DynamicQuantizeLinear"

_LENGTH = 8
"""The padded length of the rows on which stages are checked."""


def bundle_from_onnx(
    path: Path,
    *,
    cuts: Sequence[str],
    variable_length: Sequence[str] | None,
    name: str,
    micro_batch: MicroBatch | None,
    outputs: Sequence[str] | None = None,
) -> Bundle:
    """The bundle of the ONNX file `path`, whose stages give the bits of the uncut session.

    `outputs` names the values that it gives, those of the file without it.

    Raises:
        ExportError: the file holds no model whose rows can be told apart.
        CutError: it cannot be cut there.
        ModelError: onnxruntime cannot run it.
        NotRepeatableError: its rows have no results of their own.
    """
    graph = read_graph(path, variable_length, outputs)
    pieces = cut_onnx(graph, cuts)
    programs = [encode_piece(graph, piece) for piece in pieces]
    uncut = path if outputs is None else graph.model.SerializeToString()
    _check_pieces(uncut, graph, pieces, programs, micro_batch or MicroBatch())
    parts: list[tuple[Stage, Callable[[Path], None]]] = []
    known: dict[str, Stage] = {}
    for piece, program in zip(pieces, programs, strict=True):
        stage = _stage(graph, piece, program, known)
        known[stage.name] = stage
        parts.append((stage, partial(_write, program)))
    bundle = write_bundle(
        name=name,
        inputs=graph.inputs,
        outputs=graph.outputs,
        micro_batch=micro_batch,
        stages=parts,
    )
    return _tried(bundle, graph)


def _tried(bundle: Bundle, graph: OnnxGraph) -> Bundle:
    """`bundle`, which was tried; says where a file that is quantised at run time has no rows of its own."""
    try:
        return tried(bundle, captured=Captured(length_groups=graph.length_groups))
    except NotRepeatableError as error:
        node = next((node for node in graph.nodes if node.op_type == _AT_RUN_TIME), None)
        if node is None:
            raise
        raise NotRepeatableError(
            f"{error.args[0]}; node {node.name or node.output[0]!r} ({_AT_RUN_TIME}) takes one scale for all rows "
            "of a call, which a file that is quantised statically does not"
        ) from error


def find_onnx_cuts(
    path: Path,
    *,
    variable_length: Sequence[str] | None = None,
    micro_batch: MicroBatch | None = None,
) -> tuple[str, ...]:
    """The values at which the ONNX file `path` can be cut by one tensor, in the order of the file.

    Offered are values of a fixed, fetchable size with matrix work behind them, where nothing else
    with such work crosses, and whose two stages give the bits of the uncut session: onnxruntime fuses
    neighbouring operators, and a cut between two that it would have fused is left out.
    """
    graph = read_graph(path, variable_length)
    shape = micro_batch or MicroBatch()
    last = {spec.name for spec in graph.outputs}
    offered = []
    for value in graph.producers:
        spec = graph.specs.get(value)
        size = None if spec is None else spec.bytes_per_row
        is_fit = size is not None and size <= MOST_BYTES_PER_ROW
        if not is_fit or value not in graph.heavy or value in last:
            continue
        try:
            pieces = cut_onnx(graph, [value])
            if len(pieces[0].outputs) > 1:
                continue
            programs = [encode_piece(graph, piece) for piece in pieces]
            _check_pieces(path, graph, pieces, programs, shape)
        except CutError:
            continue
        offered.append(value)
    return tuple(offered)


def _stage(graph: OnnxGraph, piece: OnnxPiece, program: bytes, known: Mapping[str, Stage]) -> Stage:
    sources = []
    for value, upstream in zip(piece.arguments, piece.upstream, strict=True):
        if upstream is None:
            sources.append(Source(graph.specs[value]))
        else:
            stage, position = upstream
            sources.append(Source(known[stage].outputs[position], stage))
    reached = {name for s in sources if s.stage for name in known[s.stage].inputs}
    reached |= {source.tensor.name for source in sources if source.stage is None}
    return Stage(
        name=piece.name,
        kind="onnx",
        inputs=tuple(spec.name for spec in graph.inputs if spec.name in reached),
        sources=tuple(sources),
        outputs=_outputs(graph, piece),
        content=digest("kvspark.onnx", blake2b(program, digest_size=32).digest()),
        libraries=("onnxruntime",),
    )


def _outputs(graph: OnnxGraph, piece: OnnxPiece) -> tuple[TensorSpec, ...]:
    if piece.name == LAST:
        return graph.outputs
    specs = (graph.specs[value] for value in piece.outputs)
    return tuple(TensorSpec(f"t{i}", spec.dtype, spec.shape) for i, spec in enumerate(specs))


def _write(program: bytes, folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(program)


def _check_pieces(
    uncut: Path | bytes,
    graph: OnnxGraph,
    pieces: Sequence[OnnxPiece],
    programs: Sequence[bytes],
    micro_batch: MicroBatch,
) -> None:
    """Runs the stages one after the other and compares with the uncut session, bit for bit."""
    varies = any(not spec.is_fixed for spec in graph.inputs)
    rows = micro_batch.rows_at(_LENGTH) if varies else micro_batch.rows
    results: dict[str, Any] = dict(example_arrays(graph.inputs, rows=rows, length=_LENGTH))
    names = [spec.name for spec in graph.outputs]
    whole = open_session(uncut, threads=1).run(names, results)
    for piece, program in zip(pieces, programs, strict=True):
        session = open_session(program, threads=1)
        taken = [value.name for value in session.get_inputs()]
        feeds = {n: results[value] for n, value in zip(taken, piece.arguments, strict=True)}
        results |= dict(zip(piece.outputs, session.run(None, feeds), strict=True))
    for name, expected in zip(names, whole, strict=True):
        got = results[name]
        if (got.dtype, got.shape, got.tobytes()) != (
            expected.dtype,
            expected.shape,
            expected.tobytes(),
        ):
            raise CutError(
                f"the stages do not give the bits of the uncut session in output {name!r}: onnxruntime "
                "fuses operators on both sides of a cut; cut behind the next activation, or take one "
                "of kvspark.model.onnx.source.find_onnx_cuts"
            )
