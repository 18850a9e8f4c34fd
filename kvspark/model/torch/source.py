"""A bundle from a torch module: exported, cut at module paths, checked against the module."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kvspark.errors import CutError, ExportError
from kvspark.fingerprint import digest
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.bundle.write import check_micro_batch, write_bundle
from kvspark.model.features.features import Features
from kvspark.model.run.computation import GRAPH_FILE, WEIGHTS_FILE
from kvspark.model.run.program import build_program, encode_program, tensor_digest
from kvspark.model.run.weights import write_weights
from kvspark.model.stage.rows_of_call import rows_of_call
from kvspark.model.stage.stage import Source, Stage
from kvspark.model.torch.candidates import choose_cuts, find_candidates
from kvspark.model.torch.cut import Piece, cut_graph
from kvspark.model.torch.eager import captured_from
from kvspark.model.torch.export import Exported, export_module, tensor_spec
from kvspark.model.torch.exportable import Tensors
from kvspark.model.torch.precision import cast_copy, dtype_named
from kvspark.model.torch.work import Works, work_of, works_of
from kvspark.model.trials.tried import tried
from kvspark.spec import ROWS_UNIT, MicroBatch, TensorSpec

FEATURES = "features"

MOST_ATTEMPTS = 4
"""Sets of cuts that `auto` tries; a cut that changes bits is rare, two in a row were not seen."""

_LOG = logging.getLogger(__name__)

_Part = tuple[Stage, Callable[[Path], None]]


def bundle_from_torch(
    module: torch.nn.Module,
    example_inputs: Tensors,
    *,
    features: Features | None,
    cuts: Sequence[str] | None,
    variable_length: Sequence[str],
    name: str,
    micro_batch: MicroBatch | None,
    dtype: str | None = None,
) -> Bundle:
    """The bundle of `module`, whose stages give the bits of the whole graph; `cuts` None finds them.

    Raises:
        ExportError: the module cannot be captured as a graph.
        CutError: it cannot be cut there.
        NotRepeatableError: its rows have no results of their own.
    """
    check_micro_batch(micro_batch)
    if features is not None:
        variable_length = [spec.name for spec in features.outputs if None in spec.shape]
    computed_in = None if dtype is None else dtype_named(dtype)
    if computed_in is not None:
        module = cast_copy(module, computed_in)
    exported = export_module(
        module,
        example_inputs,
        variable_length,
        dtype=computed_in,
        single_rows=micro_batch is not None and micro_batch.rows == 1,
    )
    bundle = bundle_from_exported(
        exported,
        example_inputs,
        features=features,
        cuts=cuts,
        name=name,
        micro_batch=micro_batch,
    )
    examples = {name: _plain(tensor.contiguous()) for name, tensor in example_inputs.items()}
    captured = captured_from(module, exported, dtype=computed_in)
    return tried(bundle, examples, captured)


def bundle_from_exported(
    exported: Exported,
    example_inputs: Tensors,
    *,
    features: Features | None,
    cuts: Sequence[str] | None,
    name: str,
    micro_batch: MicroBatch | None,
) -> Bundle:
    """The bundle of a graph that is there, cut at `cuts`; None finds them.

    Raises:
        CutError: it cannot be cut there.
    """
    works = works_of(exported)

    def cut_at(paths: Sequence[str]) -> Bundle:
        bundle = write_bundle(
            name=name,
            inputs=exported.inputs if features is None else features.inputs,
            outputs=exported.outputs,
            micro_batch=micro_batch,
            stages=_parts(exported, works, paths, features),
        )
        _check_stages(bundle, exported, example_inputs)
        return bundle

    if cuts is not None:
        return cut_at(cuts)
    return _cut_by_itself(cut_at, exported, works)


def _cut_by_itself(
    cut_at: Callable[[Sequence[str]], Bundle], exported: Exported, works: Works
) -> Bundle:
    """The bundle of the best cuts that keep every bit; one stage where none of the first few does."""
    left = list(find_candidates(exported, works))
    for _ in range(MOST_ATTEMPTS):
        cuts = choose_cuts(exported, left, works)
        try:
            return cut_at(cuts)
        except CutError as error:
            _LOG.info("cut at %s left out: %s", ", ".join(cuts), error)
        refused = [path for path in cuts if len(cuts) == 1 or not _holds(cut_at, path)]
        left = [c for c in left if c.path not in (refused or cuts)]
    return cut_at([])


def _holds(cut_at: Callable[[Sequence[str]], Bundle], path: str) -> bool:
    try:
        cut_at([path])
    except CutError:
        return False
    return True


def _parts(
    exported: Exported, works: Works, cuts: Sequence[str], features: Features | None
) -> list[_Part]:
    pieces = cut_graph(exported, cuts)
    parts = _feature_part(features, exported)
    known = {stage.name: stage for stage, _ in parts}
    for piece in pieces:
        stage, write = _graph_part(piece, exported, works, known, features)
        known[stage.name] = stage
        parts.append((stage, write))
    return parts


def _feature_part(features: Features | None, exported: Exported) -> list[_Part]:
    if features is None:
        return []
    given = {spec.name for spec in features.outputs}
    missing = [spec.name for spec in exported.inputs if spec.name not in given]
    if missing:
        raise ExportError(
            f"the model takes {missing[0]!r}, the features give {', '.join(sorted(given))}; "
            "give the features that column, or a module that does without it"
        )
    for spec in exported.inputs:
        made = next(output for output in features.outputs if output.name == spec.name)
        if (made.dtype, made.shape) != (spec.dtype, spec.shape):
            raise ExportError(
                f"the model was shown {spec.name!r} as {spec.dtype} {spec.shape}, the features give "
                f"{made.dtype} {made.shape}; leave example_inputs out, or make them alike"
            )
    stage = Stage(
        name=FEATURES,
        kind=features.kind,
        inputs=tuple(spec.name for spec in features.inputs),
        sources=tuple(Source(spec) for spec in features.inputs),
        outputs=features.outputs,
        content=features.content,
        libraries=features.libraries,
    )
    return [(stage, features.write)]


def _graph_part(
    piece: Piece,
    exported: Exported,
    works: Works,
    known: dict[str, Stage],
    features: Features | None,
) -> _Part:
    if piece.name in known or piece.name.startswith("."):
        raise CutError(
            f"two stages would have the name {piece.name!r}; name the cut's module otherwise"
        )
    sources = tuple(
        _source(argument, upstream, exported, known, features)
        for argument, upstream in zip(piece.part.arguments, piece.upstream, strict=True)
    )
    reached = {name for s in sources if s.stage for name in known[s.stage].inputs}
    reached |= {source.tensor.name for source in sources if source.stage is None}
    order = [spec.name for spec in (exported.inputs if features is None else features.inputs)]
    program, weights = encode_program(piece.part)
    stage = Stage(
        name=piece.name,
        kind="graph",
        inputs=tuple(name for name in order if name in reached),
        sources=sources,
        outputs=_outputs(piece, exported),
        content=digest("kvspark.graph", [program, [tensor_digest(weight) for weight in weights]]),
        libraries=("torch",),
        rows=_rows(piece, works, sources),
    )
    return stage, partial(_write_graph, program, weights)


def _rows(piece: Piece, works: Works, sources: Sequence[Source]) -> int | None:
    """The rows of a call that follow from the work of a row; None for the usual ones."""
    is_fixed = all(source.tensor.is_fixed for source in sources)
    work = work_of(piece.part.nodes, works) if is_fixed else None
    rows = ROWS_UNIT if work is None else rows_of_call(work)
    return None if rows == ROWS_UNIT else rows


def _outputs(piece: Piece, exported: Exported) -> tuple[TensorSpec, ...]:
    if piece.part.outputs == exported.results:
        return exported.outputs
    return tuple(tensor_spec(f"t{i}", node) for i, node in enumerate(piece.part.outputs))


def _source(
    argument: torch.fx.Node,
    upstream: tuple[str, int] | None,
    exported: Exported,
    known: dict[str, Stage],
    features: Features | None,
) -> Source:
    if upstream is not None:
        name, position = upstream
        return Source(known[name].outputs[position], name)
    spec = exported.inputs[exported.placeholders.index(argument)]
    if features is None:
        return Source(spec)
    return Source(spec, FEATURES, features.pads[spec.name])


def _write_graph(program: bytes, weights: Sequence[torch.Tensor], folder: Path) -> None:
    (folder / GRAPH_FILE).write_bytes(program)
    write_weights(folder / WEIGHTS_FILE, weights)


def _check_stages(bundle: Bundle, exported: Exported, example_inputs: Tensors) -> None:
    """Runs the stages one after the other and compares with the uncut program, bit for bit."""
    results: dict[tuple[str | None, str], torch.Tensor] = {}
    for spec in exported.inputs:
        for origin in (None, FEATURES):
            results[origin, spec.name] = example_inputs[spec.name]
    for stage in (stage for stage in bundle.stages if stage.kind == "graph"):
        arguments = [results[s.stage, s.tensor.name].contiguous() for s in stage.sources]
        arrays = [_plain(tensor) for tensor in arguments]
        for spec, array in zip(
            stage.outputs,
            bundle.computation(stage, threads=torch.get_num_threads()).run(arrays),
            strict=True,
        ):
            results[stage.name, spec.name] = torch.from_numpy(array).view(
                getattr(torch, spec.dtype)
            )
    last = bundle.stages[-1]
    (uncut,) = cut_graph(exported, [])
    program, weights = encode_program(uncut.part)
    names = [exported.inputs[exported.placeholders.index(a)].name for a in uncut.part.arguments]
    with torch.inference_mode():
        # A bundle stores weights packed, and a transposed one may be added up in another order.
        packed = [weight.contiguous() for weight in weights]
        whole = build_program(program, packed, torch.device("cpu"))(
            *(example_inputs[n] for n in names)
        )
    for spec, expected in zip(last.outputs, whole, strict=True):
        got = results[last.name, spec.name]
        if _bits(got) != _bits(expected):
            raise CutError(
                f"the stages of {bundle.name!r} do not give the bits of the whole model in output "
                f"{spec.name!r}: results are stored packed, and behind a slice or a transposed view the "
                "next operator may add in another order; cut behind it, or leave the cuts out"
            )


def _plain(tensor: torch.Tensor) -> Any:
    plain = tensor.detach()
    return (plain.view(torch.uint16) if plain.dtype == torch.bfloat16 else plain).numpy()


def _bits(tensor: torch.Tensor) -> bytes:
    plain = tensor.detach().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().tobytes()
