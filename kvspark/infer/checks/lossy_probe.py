"""The check of lossy codecs before a run: do the outputs of some rows stay what they are?

The model is run on rows of the input twice, with exact results of all stages and with what the plan's
codecs leave of them. A label that changes is one that would change in the run too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from kvspark.errors import LossyCodecError
from kvspark.fingerprint import Canonical, digest
from kvspark.infer.checks.changed_outputs import changed_output
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import CompiledPlan
from kvspark.model.run.device import CPU
from kvspark.model.run.numerics import place_of
from kvspark.spec import TensorSpec

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache

PROBE_ROWS = 256
"""Rows that are computed twice: 2-3 seconds of a core with MiniLM."""

_PROBED = TensorSpec("error", "float64")
_MARK = [b""]


def probe(
    compiled: CompiledPlan,
    arrays: Mapping[str, pa.Array],
    *,
    cache: Cache | None = None,
    threads: int = 1,
    device: str = CPU,
) -> float | None:
    """The largest difference that the plan's lossy codecs make to an output, of rows of `arrays`.

    As a part of the output's own largest number. None where the plan has no lossy codec. What was
    probed is remembered under the whole model's fingerprint, and not computed again.

    Raises:
        LossyCodecError: a whole number or the place of a vector's largest number changes, or a
            difference is above `plan.lossy_tolerance`.
        DataError: the rows are not what the model takes.
    """
    bundle, plan = compiled.bundle, compiled.plan
    if not plan.lossy:
        return None
    mark = None
    if cache is not None:
        stage = bundle.stages[-1]
        place = place_of(stage, bundle.micro_batch.threads(threads), device)
        probed: list[Canonical] = [bundle.fingerprint, place, plan.lossy, plan.lossy_tolerance]
        mark = cache.keyspace(digest("kvspark.probed", probed), (_PROBED,))
        known = mark.lookup(mark.digests(_MARK))
        if known.found[0]:
            return float(np.asarray(known.columns[0])[0])
    rows = {spec.name: arrays[spec.name][:PROBE_ROWS] for spec in bundle.inputs}
    exact, rounded = (
        Predictor(each, threads=threads, device=device).predict(rows)
        for each in (CompiledPlan.of(bundle, plan.exact()), compiled)
    )
    codecs = ", ".join(f"{name}: {codec}" for name, codec in plan.lossy.items())
    errors = [
        _error(spec, exact[spec.name], rounded[spec.name], codecs, plan.lossy_tolerance)
        for spec in bundle.outputs
    ]
    if mark is not None:
        mark.insert(mark.digests(_MARK), (np.array([max(errors)]),), cost_us=0)
    return max(errors)


def _error(
    spec: TensorSpec, exact: pa.Array, rounded: pa.Array, codecs: str, tolerance: float
) -> float:
    changed = changed_output(spec, exact, rounded)
    if changed.refused is not None:
        raise _refused(codecs, changed.refused)
    if changed.error > tolerance:
        raise _refused(
            codecs,
            f"{spec.name!r} changes by up to {changed.error:.2g} of its largest number, and "
            f"plan.lossy_tolerance is {tolerance:g}",
        )
    return changed.error


def _refused(codecs: str, why: str) -> LossyCodecError:
    return LossyCodecError(
        f"codec ({codecs}) refused: {why} among the first rows; nothing was written. Choose one with "
        "more digits (fp16 before bf16 before int8), another stage, or leave plan.stages.NAME.codec out"
    )
