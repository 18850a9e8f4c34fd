"""What a stage runs, opened from the files of its bundle only when rows must be computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import numpy as np
import numpy.typing as npt

from kvspark.errors import BundleError, RowError
from kvspark.model.stage.stage import Stage
from kvspark.spec import Rows

Array = npt.NDArray[np.generic]
ProgramCall = Callable[[Callable[..., Any], Sequence[Any]], tuple[Any, ...]]

GRAPH_FILE = "graph.json"
WEIGHTS_FILE = "weights.safetensors"


class Computation(ABC):
    """The function of one stage: arguments of n rows in, results of n rows out."""

    @abstractmethod
    def run(self, arguments: Sequence[Any]) -> tuple[Rows, ...]:
        """The results for the rows of `arguments`, one for each output of the stage.

        Shapes: an argument or result with fixed dimensions is an array (n, *shape); text is a
        list of n strings; a result with a varying dimension is a list of n arrays, except in a
        graph, whose rows are padded to one length: array (n, length, ...).
        """

    @property
    def overlaps(self) -> bool:
        """True if a call can be submitted while the one before it runs."""
        return False

    @property
    def is_exact(self) -> bool:
        """False once rows were computed in another shape than they were given in."""
        return True

    def submit(self, arguments: Sequence[Any]) -> Callable[[], tuple[Rows, ...]]:
        """Starts what `run` does; what is returned waits for the results."""
        made = self.run(arguments)
        return lambda: made


@final
class GraphComputation(Computation):
    """A program of torch operators; its weights are mapped from the file, not read."""

    def __init__(self, stage: Stage, files: Mapping[str, Path], *, threads: int) -> None:
        # Here and not at the top: a worker whose rows are all hits never imports torch.
        import torch

        self._torch = torch
        self.threads = threads
        self._dtypes = [source.tensor.dtype for source in stage.sources]
        self._program = read_program(stage, files, device="cpu")

    def run(self, arguments: Sequence[Any]) -> tuple[Rows, ...]:
        return self.run_by(lambda program, tensors: program(*tensors), arguments)

    def run_by(self, call: ProgramCall, arguments: Sequence[Any]) -> tuple[Rows, ...]:
        """As `run`; `call` is given the program and its arguments, and gives what the program gives."""
        with self._torch.inference_mode(), own_threads(self.threads):
            tensors = [
                self._tensor(array, dtype)
                for array, dtype in zip(arguments, self._dtypes, strict=True)
            ]
            try:
                made = call(self._program, tensors)
            except (IndexError, RuntimeError) as error:
                raise self._explained(error, tensors) from error
            return tuple(self._array(result) for result in made)

    def _explained(self, error: Exception, tensors: Sequence[Any]) -> Exception:
        """The error of a row that was tried alone, in words where an index of it is outside a table."""
        if not all(bool((tensor == tensor[:1]).all()) for tensor in tensors):
            return error  # rows are tried alone until the bad one is known
        from kvspark.model.run.index_outside import index_outside

        said = index_outside(self._program, tensors)
        return error if said is None else RowError(said, kind=type(error).__name__)

    def _tensor(self, array: Array, dtype: str) -> Any:
        # numpy aligns to 16 bytes, torch to 64: kernels may take another path at another alignment.
        tensor = self._torch.from_numpy(array).clone()
        if dtype == "bfloat16":
            tensor = tensor.view(self._torch.bfloat16)
        return tensor

    def _array(self, tensor: Any) -> Array:
        plain = tensor.contiguous()
        if plain.dtype == self._torch.bfloat16:
            plain = plain.view(self._torch.uint16)
        array: Array = plain.numpy()
        return array


@contextmanager
def own_threads(threads: int) -> Iterator[None]:
    """Inside it torch computes with `threads` threads, behind it with as many as before.

    Their number is part of every key: another one may add in another order.
    """
    import torch

    before = torch.get_num_threads()
    if before == threads:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def read_program(stage: Stage, files: Mapping[str, Path], *, device: str) -> Callable[..., Any]:
    """The callable of a graph stage, with its weights on `device`; on a CPU mapped from the file.

    Raises:
        BundleError: its files are missing or damaged.
    """
    import torch
    from safetensors import SafetensorError

    from kvspark.model.run.program import build_program
    from kvspark.model.run.weights import map_weights

    try:
        weights = map_weights(files[WEIGHTS_FILE])
        graph = files[GRAPH_FILE].read_bytes()
    except (OSError, KeyError, SafetensorError) as error:
        raise BundleError(
            f"stage {stage.name!r}: its files cannot be read ({type(error).__name__})"
        ) from error
    return build_program(graph, weights, torch.device(device))
