"""Keras itself, on the file that a model was made of."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, final

from kvspark.model.own.runtime import Array, FileRuntime, Row, RunRow, batch_of_one, named
from kvspark.spec import TensorSpec


@final
class KerasFile(FileRuntime):
    """The model that `keras.models.load_model` gives, called with one row."""

    library = "Keras"

    def open(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> RunRow:
        import torch

        from kvspark.model.keras.source import check_keras_file, keras_on_torch

        path = self.path()
        check_keras_file(path)
        keras = keras_on_torch()
        with keras.device("cpu"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = keras.models.load_model(str(path), compile=False, safe_mode=True)
        by_name = len(inputs) > 1 or isinstance(getattr(model, "input", None), Mapping)

        def run(row: Row) -> Mapping[str, Array]:
            given = {spec.name: batch_of_one(row, spec) for spec in inputs}
            with torch.inference_mode(), keras.device("cpu"), warnings.catch_warnings():
                # Keras warns of a tensor where a list of one was in the file.
                warnings.simplefilter("ignore")
                made = model(given if by_name else next(iter(given.values())), training=False)
                return named(_arrays(made, keras), outputs)

        return run


def _arrays(made: Any, keras: Any) -> Any:
    if isinstance(made, Mapping):
        return {name: keras.ops.convert_to_numpy(one) for name, one in made.items()}
    if isinstance(made, list | tuple):
        return [keras.ops.convert_to_numpy(one) for one in made]
    return keras.ops.convert_to_numpy(made)
