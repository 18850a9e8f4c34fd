"""A bundle that was tried: what padding does to its rows, and what they do to each other.

Both trials run the same computed stages, which are opened once.
"""

from __future__ import annotations

from collections.abc import Mapping

from kvspark.model.bundle.bundle import Bundle
from kvspark.model.trials.apart import with_lengths_apart
from kvspark.model.trials.captured import Captured
from kvspark.model.trials.chained import Chained
from kvspark.model.trials.company import OPAQUE, with_own_rows
from kvspark.model.trials.padding import with_tried_lengths
from kvspark.model.trials.trial_values import Array


def tried(
    bundle: Bundle,
    examples: Mapping[str, Array] | None = None,
    captured: Captured | None = None,
) -> Bundle:
    """`bundle`, which knows the lengths that it is computed in, and that its rows have results of their own.

    `examples` are values that the model takes, by the names of its inputs; `captured` says what is known of its
    graph besides its stages.

    Raises:
        ExportError: the stages give other results than the model's own runtime at some length.
        NotRepeatableError: a row's result changes with its companions, its place, their number or the call.
    """
    stages = Chained(bundle)
    if any(stage.kind == "onnx" for stage in bundle.stages):
        # Rows first: a file that takes its first dimension for time can end the process at length 0.
        bundle = with_own_rows(bundle, examples, captured, stages=stages)
        bundle = with_tried_lengths(bundle, examples, captured, stages=stages)
    else:
        bundle = with_tried_lengths(bundle, examples, captured, stages=stages)
        bundle = with_own_rows(bundle, examples, captured, stages=stages)
    return with_lengths_apart(bundle, examples or {}, captured or Captured(), stages)


def tried_late(bundle: Bundle) -> Bundle:
    """A bundle that was saved, tried where the version that wrote it did not do so.

    Its rows are tried where nobody has looked into its stages; of a graph that was done when it was captured.
    Where they change each other it has calls of one row from now on.

    Raises:
        ModelError: the function that it calls cannot be imported here, so that it cannot be tried.
        NotRepeatableError: its results hang on the calls before.
    """
    is_opaque = any(stage.kind in OPAQUE for stage in bundle.stages)
    if bundle.knows_its_lengths and (bundle.knows_its_rows or not is_opaque):
        return bundle
    stages = Chained(bundle)
    if is_opaque and not bundle.knows_its_rows:
        bundle = with_own_rows(bundle, stages=stages, is_late=True)
    return bundle if bundle.knows_its_lengths else with_tried_lengths(bundle, stages=stages)
