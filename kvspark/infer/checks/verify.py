"""Runs a model's own runtime beside kvspark, row by row, and compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from kvspark.errors import ModelError, UsageError
from kvspark.infer.checks.verification import OneSided, OutputCheck, Verdict, Verification
from kvspark.infer.predict.predict_apart import masked_column
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.infer.rows.bad_rows import BadRows
from kvspark.infer.rows.readable import readable
from kvspark.model import own
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.own import Array, OwnRuntime
from kvspark.plan.plan import Plan
from kvspark.spec import TensorSpec

Runtime = Callable[..., Any] | str | Path
"""A function, a torch module, or the path of an ONNX, Keras or TorchScript file or a pretrained folder."""

TOLERANCE = {"float64": 1e-10, "float32": 3e-5, "float16": 1e-2, "bfloat16": 1e-2}
"""How far a result may be from the own runtime's, in units of the larger of its row's largest number and
that of the median row. Other shapes of a call move a logit of MiniLM by 4e-6 at the most; padding that is
not masked by 2e-4 and more."""

_OF_A_PLACE = 32
"""How many tolerances a number may be off in units of the largest one at its own place in any row: beside a
number of millions, a wrong one near 1 is no rounding."""
_ENOUGH_ROWS = 8
"""For a place's largest number to say how large its numbers are; a single one may be near 0 by chance."""

_TORCHSCRIPT = (".pt", ".jit", ".ts", ".torchscript")


def verify(
    bundle: Bundle,
    arrays: Mapping[str, pa.Array],
    *,
    origin: OwnRuntime | None = None,
    runtime: Runtime | OwnRuntime | None = None,
    tolerance: float | None = None,
    plan: Plan | None = None,
    threads: int = 1,
) -> Verification:
    """What `runtime`, else `origin`, else the bundle's own stages give for each row, beside kvspark.

    kvspark computes all rows as in a job, without a cache and without rounding codecs; the runtime gets one row a
    call, without padding. A row that the runtime raises on must be a bad row.

    Raises:
        SchemaError: an input has another type.
        ModelError: the runtime that was asked for cannot be opened.
    """
    bad, made = _ours(bundle, arrays, plan, threads)
    count = len(next(iter(arrays.values())))
    chosen, run, note = _opened(bundle, origin, runtime)
    found = readable(arrays, bundle.inputs, count)
    values = {name: column.argument() for name, column in found.columns.items()}
    theirs: dict[int, Mapping[str, Array]] = {}
    raised: dict[int, str] = {place: why.error for place, why in found.bad.items()}
    for position, place in enumerate(found.good.tolist()):
        got = _tried(run, {name: rows[position] for name, rows in values.items()})
        if isinstance(got, str):
            raised[place] = got
        else:
            theirs[place] = got
    both = [row for row in theirs if row not in bad]
    is_half = chosen.is_half or own.Stages(bundle).is_half
    checks = tuple(
        _compared(spec, both, made[spec.name], theirs, _bound(spec, tolerance, is_half=is_half))
        for spec in bundle.outputs
    )
    return Verification(
        chosen.name,
        chosen.is_independent,
        count,
        len(both),
        sum(1 for row in raised if row in bad),
        _one_sided(bad, raised),
        checks,
        note,
    )


def _ours(
    bundle: Bundle, arrays: Mapping[str, pa.Array], plan: Plan | None, threads: int
) -> tuple[BadRows, dict[str, Any]]:
    """The bad rows, and the outputs of the others by name, at their places."""
    predictor = Predictor(compiled_plan(bundle, plan).uncached(), threads=threads)
    ((_, columns, bad),) = predictor.stream_apart([(None, arrays)])
    return bad, {spec.name: masked_column(columns[spec.name], spec) for spec in bundle.outputs}


def _opened(
    bundle: Bundle, origin: OwnRuntime | None, runtime: Runtime | OwnRuntime | None
) -> tuple[OwnRuntime, own.RunRow, str]:
    """The runtime to compare with, opened, and why it is not the model's own."""
    if runtime is not None:
        chosen = runtime_of(runtime, [spec.name for spec in bundle.inputs])
        return chosen, chosen.open(bundle.inputs, bundle.outputs), ""
    note = "a saved bundle does not hold what it was made of; in Python, verify(..., runtime=module) has it"
    if origin is not None:
        try:
            return origin, origin.open(bundle.inputs, bundle.outputs), ""
        except ModelError as error:
            note = str(error)
    weaker = own.Stages(bundle)
    return weaker, weaker.open(bundle.inputs, bundle.outputs), note


def runtime_of(runtime: Runtime | OwnRuntime, names: Sequence[str]) -> OwnRuntime:
    """The own runtime that `runtime` stands for; `names` are the inputs in order.

    Raises:
        UsageError: it is none that is known.
    """
    if isinstance(runtime, OwnRuntime):
        return runtime
    if not isinstance(runtime, str | Path):
        import torch

        if isinstance(runtime, torch.nn.Module):
            return own.TorchModule(runtime, names)
        if callable(runtime):
            return own.Function(runtime)
        raise UsageError(
            f"runtime must be a function, a torch module or a path, got a {type(runtime).__name__}"
        )
    path = Path(runtime)
    if path.is_dir():
        return own.PretrainedFolder(path)
    kinds: dict[str, Callable[[Path], OwnRuntime]] = {
        ".onnx": own.OnnxFile,
        ".keras": own.KerasFile,
    }
    kinds |= dict.fromkeys(_TORCHSCRIPT, own.TorchScriptFile)
    made = kinds.get(path.suffix.lower())
    if made is None or not path.is_file():
        raise UsageError(
            f"runtime {path} is no file or folder that can be run; expected .onnx, .keras, TorchScript, "
            "or a folder of transformers or sentence-transformers"
        )
    return made(path)


def _tried(run: own.RunRow, row: own.Row) -> Mapping[str, Array] | str:
    """The outputs of a row, or the class of what the runtime raised."""
    try:
        return run(row)
    except Exception as error:  # noqa: BLE001 - a runtime raises what it likes on a row
        return type(error).__name__


def _one_sided(bad: BadRows, raised: Mapping[int, str]) -> tuple[OneSided, ...]:
    ours = [OneSided(row, "kvspark", error) for row, error in raised.items() if row not in bad]
    theirs = [
        OneSided(row, "own runtime", why.error) for row, why in bad.items() if row not in raised
    ]
    return tuple(sorted([*ours, *theirs], key=lambda one: one.row))


def _bound(spec: TensorSpec, tolerance: float | None, *, is_half: bool) -> float:
    if "float" not in spec.dtype:
        return 0.0
    if tolerance is not None:
        return tolerance
    return TOLERANCE["float16" if is_half else spec.dtype]


def _compared(
    spec: TensorSpec,
    rows: Sequence[int],
    ours: Any,
    theirs: Mapping[int, Mapping[str, Array]],
    tolerance: float,
) -> OutputCheck:
    pairs = [(row, *_alike(spec, ours[row], theirs[row][spec.name])) for row in rows]
    sizes = [_magnitude(their) for _, _, their in pairs]
    typical = float(np.median(sizes)) if sizes else 0.0
    of_places = _of_places(spec, [their for _, _, their in pairs], tolerance)
    largest, least, first = 0.0, np.inf, None
    is_equal = True
    for (row, our, their), size in zip(pairs, sizes, strict=True):
        allowed = tolerance * max(size, typical)
        apart = _apart(our, their)
        largest, least = max(largest, apart), min(least, allowed)
        is_equal &= our.shape == their.shape and our.tobytes() == their.tobytes()
        is_off = not apart <= allowed or bool((np.abs(_minus(our, their)) > of_places).any())
        if is_off and first is None:
            first = row
    verdict: Verdict = "differs" if first is not None else "within bound"
    if is_equal:
        verdict = "equal bits" if pairs else "nothing compared"
    return OutputCheck(spec.name, verdict, largest, least if pairs else 0.0, first)


def _alike(spec: TensorSpec, ours: Any, theirs: Any) -> tuple[Array, Array]:
    """Both results in the dtype of the output; bfloat16 as float32, which holds it exactly."""
    dtype = "float32" if spec.dtype == "bfloat16" else spec.dtype
    return _plain(ours, dtype), _plain(theirs, dtype)


def _plain(value: Any, dtype: str) -> Array:
    array: Array = np.array(value, dtype=dtype, order="C")
    return array


def _magnitude(array: Array) -> float:
    wide = array.astype(np.float64)
    return float(np.abs(wide[np.isfinite(wide)]).max(initial=0.0))


def _of_places(spec: TensorSpec, theirs: Sequence[Array], tolerance: float) -> Array | float:
    """What is allowed for each number of a row, as those at its place are; infinite where nobody knows."""
    if "float" not in spec.dtype or not spec.shape or None in spec.shape:
        return np.inf
    if len(theirs) < _ENOUGH_ROWS or any(their.shape != spec.shape for their in theirs):
        return np.inf
    wide = np.stack(theirs).astype(np.float64)
    sizes = np.abs(wide).max(axis=0, where=np.isfinite(wide), initial=0.0)
    allowed: Array = _OF_A_PLACE * tolerance * sizes
    return allowed


def _minus(ours: Array, theirs: Array) -> Array:
    """The differences of finite numbers, 0 elsewhere: `_apart` tells the others."""
    if ours.shape != theirs.shape or ours.dtype.kind != "f":
        return np.zeros(())
    one, two = ours.astype(np.float64), theirs.astype(np.float64)
    both = np.isfinite(one) & np.isfinite(two)
    return np.subtract(one, two, where=both, out=np.zeros_like(one))


def _apart(ours: Array, theirs: Array) -> float:
    """The largest absolute difference; infinite where only one is finite, or shapes differ."""
    if ours.shape != theirs.shape:
        return float("inf")
    if ours.dtype.kind != "f":
        wrong = ours != theirs
        if not wrong.any():
            return 0.0
        return float(np.abs(ours[wrong].astype(np.float64) - theirs[wrong]).max()) or 1.0
    one, two = ours.astype(np.float64), theirs.astype(np.float64)
    is_finite = np.isfinite(one) & np.isfinite(two)
    if not np.array_equal(one[~is_finite], two[~is_finite], equal_nan=True):
        return float("inf")
    return float(np.abs(one[is_finite] - two[is_finite]).max(initial=0.0))
