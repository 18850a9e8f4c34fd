"""The public model: made from what the user has, saved, loaded, scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from typing_extensions import Unpack

from kvspark.errors import ModelError, UsageError
from kvspark.infer.predicting import Predicting
from kvspark.model import own
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.bundle.manifest import MANIFEST
from kvspark.model.bundle.write import write_one_stage
from kvspark.model.trials.tried import tried, tried_late
from kvspark.spec import MicroBatch, TensorSpec

if TYPE_CHECKING:
    import torch

    from kvspark.infer.open_model import OpenOptions
    from kvspark.model.features.features import Features


@final
class Model(Predicting):
    """A model as a DAG of stages; immutable.

    Equal models have equal fingerprints in every process. The caller's module is not changed and
    not kept alive.
    """

    @classmethod
    def from_torch(
        cls,
        module: torch.nn.Module,
        example_inputs: Mapping[str, torch.Tensor] | None = None,
        *,
        features: Features | None = None,
        cuts: Sequence[str] | Literal["auto"] | None = "auto",
        variable_length: Sequence[str] = (),
        name: str | None = None,
        micro_batch: MicroBatch | None = None,
        dtype: str | None = None,
    ) -> Model:
        """The model that `module` is, exported with torch.export and cut into stages.

        `cuts` is a list of module paths (`trunk`: where tensors leave that module; `trunk@input`: where they enter
        it; `trunk@1`: its second call), None for one stage, or "auto": each tower that fewer inputs reach, and the
        trunk before a head with weights of its own, where few bytes of a fixed size cross.

        `example_inputs` is a dict of tensors with the batch first, named as `forward` names them;
        with `features` it may be left out. `variable_length` names inputs whose first dimension
        after the batch differs from row to row. A module that returns one tensor has the output
        `output`; a dict keeps its names, a tuple gives `output_0`, `output_1`, ...

        `dtype` (`bfloat16`, `float16`) casts a copy of the module: floats are cast where they enter it, and
        back to float32 where they leave it. Other results, fingerprints and entries of half the size.

        Raises:
            UsageError: the dtype is no floating-point one.
            ExportError: the module is in training mode, draws random numbers, or cannot be captured.
            CutError: a cut is no module of the model, or no set of tensors carries it.
            NotRepeatableError: a row's result hangs on more than the row; with `MicroBatch(rows=1)` only on earlier calls.
        """
        from kvspark.model.torch.source import bundle_from_torch

        if example_inputs is None:
            if features is None:
                raise UsageError("example_inputs is missing; pass a dict of tensors, batch first")
            example_inputs = features.example()
        bundle = bundle_from_torch(
            module,
            example_inputs,
            features=features,
            cuts=None if cuts == "auto" else (cuts or ()),
            variable_length=variable_length,
            name=name or type(module).__name__,
            micro_batch=micro_batch,
            dtype=dtype,
        )
        names = tuple(example_inputs)
        return cls(bundle, own.TorchModule(module, names, features=features, dtype=dtype))

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        max_length: int | None = None,
        name: str | None = None,
        micro_batch: MicroBatch | None = None,
        dtype: str | None = None,
        long_texts: str = "cut",
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncate_dim: int | None = None,
    ) -> Model:
        """The model in a folder of transformers or sentence-transformers, for texts or pictures.

        sentence-transformers: input `text`, output `embedding`, pooled and normalised as the folder says. `prompt`
        is put in front of each text, or the folder's own of `prompt_name`, its default without both, as `encode`
        does; an embedding keeps its first `truncate_dim` numbers, by default those that the folder says.
        A classifier of sequences, tokens or images: input `text` or `image`, outputs `logits`, `label` (the
        position of the largest logit) and `score` (its softmax); `scores` instead where a row has several
        labels, `logits` alone for a regression; for tokens `offsets`, where each is in the text.
        Texts are cut at `max_length` tokens, by default the folder's own limit, or longer ones are bad rows
        (`long_texts="bad"`). Reads local files, and weights from safetensors only; `dtype` as `from_torch`.

        Raises:
            ModelError: the folder is of another kind, brings code, lacks weights, or has a setting that is not applied.
            UsageError: `max_length` is more than the model has positions for, or another argument is none of its own.
        """
        from kvspark.model.pretrained.prompt import Prompt
        from kvspark.model.pretrained.source import load_pretrained

        chosen = Prompt(prompt, prompt_name)
        module, features = load_pretrained(
            path,
            max_length=max_length,
            long_texts=long_texts,
            prompt=chosen,
            truncate_dim=truncate_dim,
        )
        name = name or Path(path).name
        made = cls.from_torch(
            module, features=features, name=name, micro_batch=micro_batch, dtype=dtype
        )
        folder = own.PretrainedFolder(
            path,
            max_length=max_length,
            long_texts=long_texts,
            dtype=dtype,
            prompt=chosen,
            truncate_dim=truncate_dim,
        )
        return cls(made.bundle, folder)

    @classmethod
    def from_onnx(
        cls,
        path: str | Path,
        *,
        cuts: Sequence[str] | None = None,
        name: str | None = None,
        micro_batch: MicroBatch | None = None,
        variable_length: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Model:
        """The model in the ONNX file `path`, cut at the values that `cuts` names, run by onnxruntime.

        The first dimension of each input and output is the batch, and free in the file; names are the
        file's own. The next dimension of the inputs `variable_length` differs from row to row; left out, of
        those where the file leaves it free. `outputs` are the values of the graph that are wanted, all outputs
        of the file without it.

        Raises:
            ExportError: the file holds no model, or its rows cannot be told apart.
            CutError: a cut is no value of the graph, or its stages give other bits than the uncut file.
            NotRepeatableError: as for `from_torch`.
            ModelError: the extra `onnx` is not installed.
        """
        try:
            from kvspark.model.onnx.source import bundle_from_onnx
        except ModuleNotFoundError as error:
            raise ModelError("an ONNX file needs onnx; install kvspark[onnx]") from error
        return cls(
            bundle_from_onnx(
                Path(path),
                cuts=cuts or (),
                variable_length=variable_length,
                name=name or Path(path).stem,
                micro_batch=micro_batch,
                outputs=outputs,
            ),
            own.OnnxFile(path),
        )

    @classmethod
    def from_keras(
        cls,
        path: str | Path,
        *,
        cuts: Sequence[str] | Literal["auto"] | None = "auto",
        variable_length: Sequence[str] | None = None,
        name: str | None = None,
        micro_batch: MicroBatch | None = None,
    ) -> Model:
        """The model in the `.keras` file `path`, run by torch; cuts are names of its layers.

        Inputs and outputs have the file's own names; `variable_length` as `from_onnx`. TensorFlow, if it
        trained the model, gives other last bits. In a process that has keras on another backend nothing can be read.

        Raises:
            ModelError: no such file, a Lambda layer, keras is missing or on another backend.
            ExportError, CutError: as for `from_torch`.
        """
        from kvspark.model.keras.source import load_keras

        module, examples, variable_length = load_keras(Path(path), variable_length=variable_length)
        made = cls.from_torch(
            module,
            examples,
            cuts=cuts,
            variable_length=variable_length,
            name=name or Path(path).stem,
            micro_batch=micro_batch,
        )
        return cls(made.bundle, own.KerasFile(path))

    @classmethod
    def from_callable(
        cls,
        fn: Callable[..., Any],
        *,
        fingerprint: str | bytes,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        name: str | None = None,
        micro_batch: MicroBatch | None = None,
    ) -> Model:
        """The model that the function `fn` is: one stage, whose fingerprint its owner gives.

        `fn` takes an array (rows, *shape) for each of `inputs`, in their order, and returns an array, a
        tuple in the order of `outputs`, or a dict with their names. It must change `fingerprint` with
        its results, and be importable by name on workers: no code travels in a bundle. It is tried on rows
        of made-up numbers; what it raises on them counts for nothing.

        Raises:
            NotRepeatableError: as for `from_torch`.
            UsageError: `fn` cannot be imported by name, the fingerprint is empty, a tensor is not one
                that a function can take or give.
        """
        from kvspark.model.opaque.callable import callable_stage

        part = callable_stage(fn, fingerprint=fingerprint, inputs=inputs, outputs=outputs)
        bundle = write_one_stage(part, name=name or fn.__name__, micro_batch=micro_batch)
        return cls(tried(bundle), own.Function(fn))

    @classmethod
    def from_torchscript(
        cls,
        path: str | Path,
        *,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        fingerprint: str | bytes = b"",
        name: str | None = None,
        micro_batch: MicroBatch | None = None,
    ) -> Model:
        """The model in the TorchScript file `path`: one stage, called with `inputs` in their order.

        The file's bytes and `fingerprint` make the fingerprint. The file is a program and is run as it
        is: trust the bundle as you trust code.

        Raises:
            NotRepeatableError: as for `from_torch`; it remembers its last call, say.
            ModelError: the file cannot be read, or was saved in training mode.
            UsageError: a tensor is not one that an opaque stage can take or give.
        """
        from kvspark.model.opaque.torchscript import torchscript_stage

        part = torchscript_stage(
            Path(path), fingerprint=fingerprint, inputs=inputs, outputs=outputs
        )
        bundle = write_one_stage(part, name=name or Path(path).stem, micro_batch=micro_batch)
        return cls(tried(bundle), own.TorchScriptFile(path))

    @classmethod
    def open(cls, path: str | Path, **options: Unpack[OpenOptions]) -> Model:
        """The model at `path`, a folder, a file or the URI of a registry: as `kvspark.open_model`."""
        from kvspark.infer.open_model import open_model

        return open_model(path, **options)

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """The model that `save` wrote to the folder `path`; reads the manifest, no weights.

        Weights are read once where an earlier version wrote it and did not try what padding does to its rows, or
        what they do to each other: that is tried then. Where they change each other each call has one row.

        Raises:
            BundleError: the folder holds no bundle.
            ModelError: it has to be tried, and its function cannot be imported here.
            NotRepeatableError: it has to be tried, and its results hang on the calls before.
        """
        return cls(tried_late(Bundle.load(path)))

    @staticmethod
    def is_saved_at(path: str | Path) -> bool:
        """True if `save` has written a model to the folder `path`."""
        return (Path(path) / MANIFEST).is_file()


def explain_miss(a: Model, b: Model) -> str:
    """Why entries of model `a` are misses for model `b`, stage by stage to the first that differs."""
    return a.explain_miss(b)
