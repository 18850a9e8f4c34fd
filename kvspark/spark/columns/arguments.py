"""What was given to `score` and `udf` by mistake: said in one line, before anything else looks at it."""

from __future__ import annotations

from collections.abc import Mapping

from kvspark.errors import UsageError
from kvspark.plan.plan import check_plan


def check_arguments(model: object, *, plan: object = None, **mappings: object) -> None:
    """Does nothing if `model` is a Model, `plan` a Plan or None, and each of `mappings` a mapping or None.

    Raises:
        UsageError: one is not; says what it is, and how to write it.
    """
    # By what a Model has: its class would bring torch into every worker that imports `score`.
    if not hasattr(model, "bundle"):
        raise UsageError(
            f"model must be a kvspark.Model, got {type(model).__name__}; make one with Model.from_torch(module, "
            "example_inputs), or open one with kvspark.open_model(path)"
        )
    check_plan(plan)
    for name, given in mappings.items():
        if given is not None and not isinstance(given, Mapping):
            one = "'an input': 'its column'" if name == "inputs" else "'an output': 'a new column'"
            raise UsageError(f"{name} must be a dict {{{one}}}, got {type(given).__name__}")


def check_table(df: object) -> None:
    """Does nothing if `df` may be a table.

    Raises:
        UsageError: it is the model: the two stand the other way round.
    """
    if hasattr(df, "bundle"):
        raise UsageError(
            "the table comes before the model: kvspark.score(rows, model), or rows.transform(kvspark.score, model)"
        )
