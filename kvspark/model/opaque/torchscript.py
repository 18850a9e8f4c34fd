"""A TorchScript file as one opaque stage.

The file travels in the bundle, and its bytes are part of the fingerprint beside what its owner gives. It is
a program that torch runs as it is: a bundle with one is trusted as code is, from where it was made to where
it runs. Models that torch.export can capture are better made with `Model.from_torch`: they can be cut.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kvspark.errors import BundleError, ModelError, UsageError
from kvspark.fingerprint import file_sha256
from kvspark.model.opaque.callable import CallableComputation, check_specs, opaque_stage
from kvspark.model.pretrained.transformer import first_line
from kvspark.model.run.computation import own_threads
from kvspark.model.stage.stage import Stage
from kvspark.spec import TensorSpec

TORCHSCRIPT_FILE = "torchscript.pt"


def torchscript_stage(
    path: Path,
    *,
    fingerprint: str | bytes,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> tuple[Stage, Callable[[Path], None]]:
    """The stage that runs the file `path`, and what writes its files.

    Raises:
        ModelError: the file is no TorchScript, or was saved in training mode.
        UsageError: the fingerprint is no text or bytes, or a tensor is not one that a stage can take or give.
    """
    given: Any = fingerprint  # whatever a caller passes, an integer say
    if not isinstance(given, str | bytes):
        raise UsageError(f"the fingerprint of {path} must be text or bytes, got {fingerprint!r}")
    check_specs(str(path), inputs, outputs)
    opened_torchscript(path)
    content = path.read_bytes()
    owned = {"owner": fingerprint, "sha256": file_sha256(path)}
    stage = opaque_stage("torchscript", "kvspark.script", owned, inputs, outputs, ("torch",))
    return stage, lambda folder: _write(content, folder)


def open_torchscript(
    stage: Stage, files: Mapping[str, Path], *, threads: int
) -> CallableComputation:
    """What a stage of this kind runs.

    Raises:
        BundleError: its file is missing.
        ModelError: this torch cannot read it.
    """
    try:
        module = opened_torchscript(files[TORCHSCRIPT_FILE])
    except KeyError as error:
        raise BundleError(
            f"stage {stage.name!r} has no {TORCHSCRIPT_FILE}; save it again"
        ) from error
    import torch

    jit: Any = torch.jit  # whose functions have no types

    def run(*arrays: Any) -> Any:
        # The optimised form is made after the first calls, and may give other bits than those did.
        unoptimised = jit.optimized_execution(should_optimize=False)
        with torch.inference_mode(), unoptimised, own_threads(threads):
            # numpy aligns to 16 bytes, torch to 64: kernels may take another path at another alignment.
            try:
                made = module(*(torch.from_numpy(array).clone() for array in arrays))
                return _plain(made)
            except RuntimeError as error:
                raise _explained(stage, error) from error

    return CallableComputation(stage, run)


def _explained(stage: Stage, error: RuntimeError) -> Exception:
    """What a call raised: for whatever rows, or for these ones, in torch's own words without the program's lines."""
    if str(error).startswith("forward()"):  # before the program began
        return ModelError(
            f"stage {stage.name!r}: its program fails ({first_line(error)}); compare inputs= with what it takes"
        )
    lines = [line for line in str(error).splitlines() if line.strip()]
    return RuntimeError(lines[-1].removeprefix("RuntimeError: ") if lines else "")


def opened_torchscript(path: Path) -> Any:
    """The program in the file `path`, on the CPU.

    Raises:
        ModelError: it is no TorchScript, or was saved in training mode.
    """
    import torch

    jit: Any = torch.jit
    try:
        with warnings.catch_warnings():
            # torch.jit is deprecated, and it is the form in which the model is there.
            warnings.simplefilter("ignore")
            module: Any = jit.load(str(path), map_location="cpu")
    except (OSError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"{path} is no TorchScript file that this torch can read "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    training = [name for name, part in module.named_modules() if getattr(part, "training", False)]
    if training:
        raise ModelError(
            f"{path} was saved in training mode ({training[0] or 'the model'}); call eval() before "
            "torch.jit.script or torch.jit.trace, and save it again"
        )
    return module


def _plain(made: Any) -> Any:
    """Results as arrays, in the container that they came in."""
    if isinstance(made, Mapping):
        return {name: _plain(value) for name, value in made.items()}
    if isinstance(made, list | tuple):
        return tuple(_plain(value) for value in made)
    return made.numpy()


def _write(content: bytes, folder: Path) -> None:
    (folder / TORCHSCRIPT_FILE).write_bytes(content)
