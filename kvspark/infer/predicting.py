"""What a model takes, gives and computes: the half of `Model` that is the same for every source."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from kvspark.cache.cache_argument import given_cache
from kvspark.fingerprint import Fingerprint
from kvspark.infer.checks.verification import Verification
from kvspark.infer.predict.kept_predictor import KeptPredictor
from kvspark.infer.predict.predict_apart import check_on_bad_row, predict_apart
from kvspark.infer.rows.array_columns import arrow_columns, numpy_column
from kvspark.infer.rows.bad_rows import OnBadRow
from kvspark.infer.rows.subject import given_subjects
from kvspark.model import own
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.bundle.describe import Description, describe, explain_miss, html_of, line_of
from kvspark.model.run.device import DeviceClass
from kvspark.model.stage.stage import Stage
from kvspark.plan.plan import Plan, check_plan
from kvspark.spec import MicroBatch, TensorSpec

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache
    from kvspark.infer.checks.verify import Runtime


class Predicting:
    """A bundle that rows can be scored with, and what it was made of where that is at hand."""

    def __init__(self, bundle: Bundle, own_runtime: own.OwnRuntime | None = None) -> None:
        self.bundle = bundle
        self._kept = KeptPredictor(bundle)
        self._own = own_runtime

    @property
    def name(self) -> str:
        """What people call it; no part of any fingerprint."""
        return self.bundle.name

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in topological order; the last one gives the outputs."""
        return self.bundle.stages

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The columns that it takes; dtype `string` for text, `binary` for bytes."""
        return self.bundle.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives for a row."""
        return self.bundle.outputs

    @property
    def fingerprint(self) -> Fingerprint:
        """32 bytes: equal models give equal outputs for equal inputs on equal machines."""
        return self.bundle.fingerprint

    def describe(self) -> Description:
        """The stages as a table; `.mermaid()` and `.dot()` give the DAG as a picture."""
        return describe(self.bundle)

    def explain_miss(self, other: Predicting) -> str:
        """Why entries of this model are misses for `other`, stage by stage to the first that differs."""
        return explain_miss(self.bundle, other.bundle)

    def predict(
        self,
        columns: Mapping[str, Any],
        *,
        cache: Cache | str | None = None,
        plan: Plan | None = None,
        threads: int | None = None,
        on_bad_row: OnBadRow = "error",
    ) -> dict[str, Any]:
        """The outputs for the rows of `columns`, in their order: `{output: array (n, *shape)}`.

        `columns` maps each input to an array, a list (of str for text, of bytes for pictures and sounds) or a tensor
        with n rows; an output with a varying dimension is a list of n arrays. Floats are rounded to the input's dtype as
        numpy rounds them; an integer that it does not hold, or a float that would become infinite, is refused whatever
        `on_bad_row` says. `cache` may be a URL, in the namespace
        of the model's name. `threads` defaults to torch's own number. Weights that were opened stay open for the
        next call with the same cache, plan and threads.

        With `on_bad_row="null"` a row that cannot be scored (a null, a damaged picture, a value on which
        the model raises) is masked in the outputs, which are masked arrays then, or None in a list;
        with "quarantine" `_kvspark_error` also holds a `BadRow` for each of them, None for the others.

        Raises:
            DataError: a row is bad and `on_bad_row` is "error", or a number does not fit; says which row.
            UsageError: `cache` is neither a cache nor a URL, or `plan` is no plan.
            SchemaError: an input is missing or has another type.
        """
        check_plan(plan)
        if threads is None:
            import torch

            threads = torch.get_num_threads()
        cache = given_cache(cache, namespace=self.name)
        arrays = arrow_columns(columns, self.inputs)
        arrays |= given_subjects(columns, cache)
        check_on_bad_row(on_bad_row)
        with self._kept.predictor(plan, cache, threads) as predictor:
            if on_bad_row != "error":
                return predict_apart(predictor, arrays, on_bad_row)
            made = predictor.predict(arrays)
            predictor.count()
        return {spec.name: numpy_column(made[spec.name], spec) for spec in self.outputs}

    def verify(
        self,
        columns: Mapping[str, Any],
        *,
        runtime: Runtime | None = None,
        tolerance: float | None = None,
    ) -> Verification:
        """The model's own runtime beside kvspark on the rows of `columns`, which are as for `predict`.

        The own runtime (eager torch, onnxruntime, Keras, sentence-transformers or transformers, the function) gets one
        row a call, unpadded; kvspark computes as in a job without a cache. A saved model has no own runtime: pass
        `runtime`, a module, a function as of `from_callable` or a path; without it the bundle's stages are called
        with one row, which is weaker, and is said. `tolerance` is in units of a row's largest number.

        Raises:
            SchemaError: an input is missing or has another type.
            ModelError, UsageError: `runtime` cannot be opened, or is none.
        """
        from kvspark.infer.checks.verify import verify

        arrays = arrow_columns(columns, self.inputs)
        return verify(self.bundle, arrays, origin=self._own, runtime=runtime, tolerance=tolerance)

    def save(self, path: str | Path) -> None:
        """Writes the model to the folder `path`, which must not exist or be empty.

        Raises:
            BundleError: the folder is not empty.
        """
        self.bundle.save(path)

    def with_micro_batch(self, micro_batch: MicroBatch) -> Self:
        """The same model, computed in other shapes: its fingerprints change."""
        return type(self)(self.bundle.with_micro_batch(micro_batch), self._own)

    def with_device(self, device: DeviceClass) -> Self:
        """The same model, its graph stages computed on a `cpu` or a GPU (`cuda`): other fingerprints."""
        return type(self)(self.bundle.with_device(device), self._own)

    def __repr__(self) -> str:
        return f"Model({line_of(self.bundle)})"

    def _repr_html_(self) -> str:
        return html_of(self.bundle)
