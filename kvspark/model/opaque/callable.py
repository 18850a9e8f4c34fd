"""A function as one opaque stage, whose fingerprint its owner gives.

The function does not travel. The bundle holds its name, `module:qualname`, and a worker imports it:
the module must be installed there, or come with the job (`spark.submit.pyFiles`). Importing a module
runs its code, so such a bundle is trusted as far as what is installed beside it.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np

from kvspark.errors import BundleError, ModelError, OutputMismatchError, UsageError
from kvspark.fingerprint import Canonical, digest
from kvspark.model.run.computation import Computation
from kvspark.model.stage.stage import Source, Stage
from kvspark.spec import ITEM_BYTES, Rows, TensorSpec

CALLABLE_FILE = "callable.json"
STAGE_NAME = "output"

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def callable_stage(
    fn: Callable[..., Any],
    *,
    fingerprint: str | bytes,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> tuple[Stage, Callable[[Path], None]]:
    """The stage that calls `fn`, and what writes its files.

    Raises:
        UsageError: `fn` cannot be imported by name, the fingerprint is empty, or a tensor is not one
            that a function can take or give.
    """
    reference = function_reference(fn)
    given: Any = fingerprint  # whatever a caller passes, an integer say
    if not isinstance(given, str | bytes) or not given:
        raise UsageError(
            f"the fingerprint of {reference} must be text or bytes and not empty, got {fingerprint!r}; "
            "give what changes whenever its results do, a version or a digest of its weights"
        )
    check_specs(reference, inputs, outputs)
    stage = opaque_stage("callable", "kvspark.callable", {"owner": fingerprint}, inputs, outputs)
    return stage, partial(_write, reference)


def function_reference(fn: Callable[..., Any]) -> str:
    """`module:qualname` of a function that any process can import.

    Raises:
        UsageError: the name does not lead back to `fn`: a lambda, an inner or bound function, an
            object, or one of the program that is running.
    """
    module, qualname = getattr(fn, "__module__", None), getattr(fn, "__qualname__", None)
    reference = f"{module}:{qualname}"
    found = None
    if module != "__main__" and _REFERENCE.fullmatch(reference):
        try:
            found = _imported(reference)
        except (ImportError, AttributeError):
            found = None
    if found is None or found is not fn:
        raise UsageError(
            f"{reference} is no function that a worker can import by name, and no code travels in a "
            "bundle; define it with `def` at the top of a module that workers have, and pass that"
        )
    return reference


def opaque_stage(
    kind: str,
    domain: str,
    owned: Mapping[str, Canonical],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    libraries: tuple[str, ...] = (),
) -> Stage:
    """The one stage of a model that cannot be looked into; `owned` is what its owner and its files say of it."""
    # Names count here: a result that is a dict is told apart by them.
    specs = {
        what: [[spec.name, spec.dtype, list(spec.shape)] for spec in some]
        for what, some in (("inputs", inputs), ("outputs", outputs))
    }
    return Stage(
        name=STAGE_NAME,
        kind=kind,
        inputs=tuple(spec.name for spec in inputs),
        sources=tuple(Source(spec) for spec in inputs),
        outputs=tuple(outputs),
        content=digest(domain, {**owned, **specs}),
        libraries=libraries,
    )


def check_specs(
    reference: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    """Returns if an opaque stage can take `inputs` and give `outputs`.

    Raises:
        UsageError: a name is there twice, an array cannot hold a dtype, a dimension cannot vary.
    """
    for what, specs in (("inputs", inputs), ("outputs", outputs)):
        names = [spec.name for spec in specs]
        if not names or len(set(names)) < len(names):
            raise UsageError(
                f"{what} of {reference}: expected tensors of different names, got {names}"
            )
        for spec in specs:
            # numpy has no bfloat16: a function would see the integers of its bits.
            if spec.dtype not in ITEM_BYTES or spec.dtype == "bfloat16":
                raise UsageError(
                    f"{what} of {reference}: {spec.name!r} has dtype {spec.dtype!r}, which no array has; "
                    f"expected one of {', '.join(sorted(set(ITEM_BYTES) - {'bfloat16'}))}"
                )
            if None in spec.shape[1:]:
                raise UsageError(
                    f"{what} of {reference}: only the first dimension of {spec.name!r} may vary, "
                    f"got shape {spec.shape}"
                )
    if all(spec.is_fixed for spec in inputs) and not all(spec.is_fixed for spec in outputs):
        raise UsageError(
            f"outputs of {reference}: a dimension can vary only where one of an input does"
        )


@final
class CallableComputation(Computation):
    """A function, called with the arrays of its inputs in their order."""

    def __init__(self, stage: Stage, function: Callable[..., Any]) -> None:
        self._stage = stage
        self._function = function

    @classmethod
    def open(cls, stage: Stage, files: Mapping[str, Path]) -> CallableComputation:
        """The function that a bundle names, imported here.

        Raises:
            BundleError: the file cannot be read.
            ModelError: the function is not installed in this process.
        """
        try:
            reference = json.loads(files[CALLABLE_FILE].read_text(encoding="utf-8"))["function"]
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"stage {stage.name!r}: its files cannot be read ({type(error).__name__})"
            ) from error
        if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
            raise BundleError(f"stage {stage.name!r} names no function; expected module:qualname")
        try:
            function = _imported(reference)
        except (ImportError, AttributeError) as error:
            raise ModelError(
                f"stage {stage.name!r} calls {reference}, which cannot be imported here "
                f"({type(error).__name__}); install its module on the workers, or name it in "
                "spark.submit.pyFiles"
            ) from error
        if not callable(function):
            raise ModelError(f"stage {stage.name!r} calls {reference}, which is no function")
        return cls(stage, function)

    def run(self, arguments: Sequence[Any]) -> tuple[Rows, ...]:
        try:
            made = self._function(*arguments)
        except SystemExit as error:
            # It would end the worker, with no word of why.
            raise ModelError(
                f"stage {self._stage.name!r} ended its process (sys.exit); let the function raise an error"
            ) from error
        return tuple(
            self._array(value, spec)
            for value, spec in zip(self._values(made), self._stage.outputs, strict=True)
        )

    def _values(self, made: Any) -> list[Any]:
        """The results in the order of the outputs."""
        specs = self._stage.outputs
        names = [spec.name for spec in specs]
        if isinstance(made, Mapping):
            if set(made) != set(names):
                raise OutputMismatchError(
                    f"stage {self._stage.name!r} gave {', '.join(map(str, made)) or 'nothing'}, "
                    f"expected {', '.join(names)}"
                )
            return [made[name] for name in names]
        values = list(made) if isinstance(made, tuple) else [made]
        if len(values) != len(specs):
            raise OutputMismatchError(
                f"stage {self._stage.name!r} gave {len(values)} results, expected {len(specs)} "
                f"({', '.join(names)}); return an array, a tuple of arrays or a dict of arrays"
            )
        return values

    def _array(self, value: Any, spec: TensorSpec) -> Rows:
        if np.ma.is_masked(value):
            raise OutputMismatchError(
                f"stage {self._stage.name!r} gave {spec.name!r} with masked values, which no row has; fill them"
            )
        # An array of objects is a list of rows. A copy: the function may use its own buffer again in the next call.
        is_objects = isinstance(value, np.ndarray) and value.dtype.hasobject
        try:
            array: Any = np.array(list(value) if is_objects else value, order="C")
        except ValueError:
            if not _is_uneven(value):
                raise
            # Of no row in particular: alone, each of them has a result.
            raise OutputMismatchError(
                f"stage {self._stage.name!r} gave rows of several lengths for {spec.name!r} in one call, and an array has "
                "one; fill them up to one length in the function, or make the model with "
                "micro_batch=MicroBatch(rows=1), which calls it with one row"
            ) from None
        if array.dtype.newbyteorder("<") == spec.numpy_dtype:
            array = array.astype(spec.numpy_dtype, copy=False)
        if not array.ndim:
            raise OutputMismatchError(
                f"stage {self._stage.name!r} gave one value for {spec.name!r}; expected a row for each row"
            )
        rows: Rows = array
        return rows


def _is_uneven(value: Any) -> bool:
    """True for rows in containers that make no array, because some that stand side by side have other lengths."""
    if not isinstance(value, list | tuple) and not (
        isinstance(value, np.ndarray) and value.dtype.hasobject
    ):
        return False
    lengths = {len(row) if hasattr(row, "__len__") else -1 for row in value}
    return len(lengths) > 1 or any(map(_is_uneven, value))


def _imported(reference: str) -> Any:
    module, _, qualname = reference.partition(":")
    found: Any = importlib.import_module(module)
    for name in qualname.split("."):
        found = getattr(found, name)
    return found


def _write(reference: str, folder: Path) -> None:
    (folder / CALLABLE_FILE).write_text(json.dumps({"function": reference}), encoding="utf-8")
