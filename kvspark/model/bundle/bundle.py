"""A bundle: a model on disk, as stages that are opened one by one.

    manifest.json                       everything below, with the sha256 of every other file
    stages/<stage>/graph.json           the program of a graph stage
    stages/<stage>/weights.safetensors  its distinct weights, named "0", "1", ... in order of first use
    stages/<stage>/model.onnx           the program and the weights of an ONNX stage
    stages/<stage>/callable.json        the name of a function that is installed where it runs
    stages/<stage>/torchscript.pt       a TorchScript program
    stages/<stage>/tokenizer.json ...   the files of a feature stage (image.json, audio.json)

Nothing in it is code: no pickle, no module. (A stage of kind `callable` names code that must be there
already, one of kind `torchscript` is a program: such a bundle is trusted as code is.) A bundle in use holds only the manifest; a
stage's files are opened, and checked against their sha256, when rows of that stage must be computed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, final

from kvspark.errors import BundleError, UsageError
from kvspark.fingerprint import Fingerprint, file_sha256
from kvspark.model.features.audio import AudioComputation
from kvspark.model.features.image import ImageComputation
from kvspark.model.features.text import TextComputation
from kvspark.model.opaque.callable import CallableComputation
from kvspark.model.opaque.torchscript import open_torchscript
from kvspark.model.run.computation import Computation, GraphComputation
from kvspark.model.run.device import CPU, DeviceClass, device_class
from kvspark.model.run.gpu_computation import on_gpu
from kvspark.model.run.onnx_computation import OnnxComputation
from kvspark.model.stage.stage import Source, Stage, fingerprinted
from kvspark.spec import LengthRule, MicroBatch, Shapes, TensorSpec

FORMAT = 1
MANIFEST = "manifest.json"

_FEATURES: Mapping[str, Callable[[Stage, Mapping[str, Path]], Computation]] = {
    "text": TextComputation.open,
    "image": ImageComputation.open,
    "audio": AudioComputation.open,
}
"""What opens the stage of each kind of features."""

OpenFile = Callable[[str], Path]
"""Gives the local path of a file of the bundle, by its name in the manifest, checked against it."""


@final
class Bundle:
    """The stages of a model and the way to their files."""

    def __init__(
        self,
        manifest: bytes,
        open_file: OpenFile | None = None,
        *,
        folder: Path | None = None,
        owner: object = None,
    ) -> None:
        """The bundle of `manifest`, whose files are in `folder`, or wherever `open_file` finds them.

        `owner` is kept alive as long as this bundle: the one whose temporary folder it shares.

        Raises:
            BundleError: the manifest is not one of this format.
        """
        try:
            value = json.loads(manifest)
            if value["format"] != FORMAT:
                raise BundleError(f"a bundle of format {value['format']}, expected {FORMAT}")
            self.name: str = value["name"]
            self.inputs = tuple(map(_spec, value["inputs"]))
            self.outputs = tuple(map(_spec, value["outputs"]))
            self.micro_batch = MicroBatch(**value["micro_batch"])
            self.length_rule = LengthRule(**value.get("lengths", {}))
            """In which lengths rows of varying length are computed."""
            self.has_single_rows: bool = value.get("single_rows", False)
            self.knows_its_rows = "single_rows" in value
            """False if nobody tried whether rows change each other."""
            self._has_rule = "lengths" in value
            """True if only calls of one row are right: rows that share a call change each other."""
            self.device: DeviceClass | None = _device(value.get("device"))
            """Where its graph stages are computed; None until somebody chose."""
            self.files: Mapping[str, Mapping[str, Any]] = value["files"]
            stages = [_stage(item) for item in value["stages"]]
            self.stage_files: Mapping[str, tuple[str, ...]] = {
                item["name"]: tuple(map(_checked_name, item["files"])) for item in value["stages"]
            }
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{MANIFEST} is damaged ({type(error).__name__}: {error})") from error
        self.manifest = manifest
        self.stages = fingerprinted(
            stages, self.micro_batch, self.length_rule, self.device or "cpu"
        )
        self.folder = folder
        """Where its files are, if they are in one folder; a temporary one for a model that is not saved."""
        self._open_file = open_file
        self._owner = owner

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """The bundle in the folder `path`; reads its manifest only.

        Raises:
            BundleError: the folder holds no bundle.
        """
        folder = Path(path)
        try:
            manifest = (folder / MANIFEST).read_bytes()
        except OSError as error:
            raise BundleError(
                f"{folder} holds no model bundle ({MANIFEST}: {error.strerror}); save one with Model.save"
            ) from error
        return cls(manifest, folder=folder)

    def save(self, path: str | Path) -> None:
        """Writes the bundle to the folder `path`, which must not exist or be empty.

        Raises:
            BundleError: the folder is not empty, or a file of the bundle is missing.
        """
        folder = Path(path)
        if folder.exists() and any(folder.iterdir()):
            raise BundleError(f"{folder} is not empty; save to a new folder")
        for name in self.files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.path(name), folder / name)
        # Last, so that a folder with a manifest is a whole bundle.
        (folder / MANIFEST).write_bytes(self.manifest)

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the last stage, which gives all outputs."""
        return self.stages[-1].fingerprint

    def stage_of(self, name: str) -> str:
        """The stage whose file is called `name`."""
        return next(stage for stage, files in self.stage_files.items() if name in files)

    def with_micro_batch(self, micro_batch: MicroBatch) -> Bundle:
        """The same model, computed in other shapes: other fingerprints.

        Raises:
            UsageError: rows that share a call change each other, and a call would have several.
        """
        if self.has_single_rows and micro_batch.rows > 1:
            raise UsageError(
                f"the rows of {self.name!r} change each other where they share a call, so it was made for "
                f"MicroBatch(rows=1); got rows={micro_batch.rows}, leave micro_batch out"
            )
        return self._with(micro_batch=asdict(micro_batch))

    def with_own_rows(self, *, only_single: bool) -> Bundle:
        """The same model, whose rows were tried; `only_single`: it takes micro-batches of one row only."""
        return self._with(single_rows=only_single)

    def with_length_rule(self, rule: LengthRule) -> Bundle:
        """The same model, computed at the lengths of `rule`: other fingerprints where they are others."""
        usual = asdict(LengthRule())
        return self._with(lengths={k: v for k, v in asdict(rule).items() if v != usual[k]})

    def _with(self, **changes: object) -> Bundle:
        value = {**json.loads(self.manifest), **changes}
        return Bundle(_json(value), self._open_file, folder=self.folder, owner=self)

    @property
    def shapes(self) -> Shapes:
        """In which shapes it is called."""
        rows_are_own = self.knows_its_rows and not self.has_single_rows
        return Shapes(self.micro_batch, self.length_rule, rows_are_own)

    @property
    def has_lengths(self) -> bool:
        """True if a dimension of its rows varies."""
        return any(stage.is_batched and stage.has_lengths for stage in self.stages)

    @property
    def knows_its_lengths(self) -> bool:
        """False if no dimension was ever tried: an earlier version wrote it."""
        return not self.has_lengths or self._has_rule

    def with_device(self, device: DeviceClass) -> Bundle:
        """The same model, its graph stages computed on a device of this class: other fingerprints."""
        return self._with(device=device)

    def path(self, name: str) -> Path:
        """The local path of a file, checked against the manifest.

        Raises:
            BundleError: the file is missing or its bytes are not those that were saved.
        """
        if self._open_file is not None:
            return self._open_file(name)
        if self.folder is None:
            raise BundleError(f"model {self.name!r} has no files, only a manifest")
        found = self.folder / name
        try:
            sha256 = file_sha256(found)
        except OSError as error:
            raise BundleError(
                f"{found} of model {self.name!r} cannot be read: {error.strerror}"
            ) from error
        if sha256 != self.files[name]["sha256"]:
            raise BundleError(
                f"{found} of model {self.name!r} has sha256 {sha256[:12]}..., the manifest says "
                f"{str(self.files[name]['sha256'])[:12]}...; the bundle is damaged, save it again"
            )
        return found

    def computation(self, stage: Stage, *, threads: int, device: str = CPU) -> Computation:
        """Opens what `stage` runs, its weights and nobody else's, for calls with `threads` threads.

        A graph stage runs on `device`, all others on the CPU.

        Raises:
            BundleError: its files are missing or damaged.
            ModelError: there is no such device.
        """
        files = {PurePosixPath(name).name: self.path(name) for name in self.stage_files[stage.name]}
        if stage.kind == "graph" and device != CPU:
            return on_gpu(stage, files, device=device)
        if stage.kind == "graph":
            return GraphComputation(stage, files, threads=threads)
        if stage.kind == "onnx":
            return OnnxComputation(stage, files, threads=threads)
        if stage.kind == "callable":
            return CallableComputation.open(stage, files)
        if stage.kind == "torchscript":
            return open_torchscript(stage, files, threads=threads)
        if stage.kind in _FEATURES:
            return _FEATURES[stage.kind](stage, files)
        raise BundleError(
            f"stage {stage.name!r} is of kind {stage.kind!r}, which this version does not know"
        )


def check_micro_batch(micro_batch: object) -> None:
    """Raises UsageError: it is no `MicroBatch`."""
    if not isinstance(micro_batch, MicroBatch):
        raise UsageError(
            f"micro_batch: expected a kvspark.MicroBatch, for example MicroBatch(rows=32), got "
            f"{type(micro_batch).__name__}"
        )


def write_bundle(
    *,
    name: str,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    micro_batch: MicroBatch,
    stages: Sequence[tuple[Stage, Callable[[Path], None]]],
) -> Bundle:
    """A bundle in a temporary folder that lives as long as it; each stage writes its own files."""
    check_micro_batch(micro_batch)
    root = Path(tempfile.mkdtemp(prefix="kvspark-model-"))
    files: dict[str, dict[str, Any]] = {}
    items = []
    for stage, write in stages:
        folder = root / "stages" / stage.name
        folder.mkdir(parents=True)
        write(folder)
        names = sorted(f"stages/{stage.name}/{path.name}" for path in folder.iterdir())
        for file in names:
            files[file] = {
                "sha256": file_sha256(root / file),
                "size_bytes": (root / file).stat().st_size,
            }
        items.append({**_stage_json(stage), "files": names})
    manifest = {
        "format": FORMAT,
        "name": name,
        "inputs": [asdict(spec) for spec in inputs],
        "outputs": [asdict(spec) for spec in outputs],
        "micro_batch": asdict(micro_batch),
        "stages": items,
        "files": files,
    }
    bundle = Bundle(_json(manifest), folder=root)
    weakref.finalize(bundle, shutil.rmtree, root, ignore_errors=True)
    return bundle


def write_one_stage(
    part: tuple[Stage, Callable[[Path], None]], *, name: str, micro_batch: MicroBatch | None
) -> Bundle:
    """The bundle of a model that is one opaque stage."""
    stage, _ = part
    return write_bundle(
        name=name,
        inputs=[source.tensor for source in stage.sources],
        outputs=stage.outputs,
        micro_batch=micro_batch or MicroBatch(),
        stages=[part],
    )


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, indent=1).encode()


def _stage_json(stage: Stage) -> dict[str, Any]:
    return {
        "name": stage.name,
        "kind": stage.kind,
        "inputs": list(stage.inputs),
        "sources": [asdict(source) for source in stage.sources],
        "outputs": [asdict(spec) for spec in stage.outputs],
        "content": stage.content.hex(),
        "libraries": list(stage.libraries),
    }


def _stage(value: Mapping[str, Any]) -> Stage:
    return Stage(
        name=value["name"],
        kind=value["kind"],
        inputs=tuple(value["inputs"]),
        sources=tuple(
            Source(_spec(item["tensor"]), item["stage"], item["pad"]) for item in value["sources"]
        ),
        outputs=tuple(map(_spec, value["outputs"])),
        content=bytes.fromhex(value["content"]),
        # A bundle that was written before a stage could have several names one.
        libraries=tuple(value["libraries"]) if "libraries" in value else (value["library"],),
    )


def _device(value: object) -> DeviceClass | None:
    return None if value is None else device_class(str(value))


def _spec(value: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(value["name"], value["dtype"], tuple(value["shape"]))


def _checked_name(name: str) -> str:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise BundleError(f"the manifest names the file {name!r}, which lies outside the bundle")
    return name
