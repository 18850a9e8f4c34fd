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
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any, final

from kvspark.errors import BundleError, UsageError
from kvspark.fingerprint import Fingerprint
from kvspark.model.bundle.files import BundleFiles, FolderFiles
from kvspark.model.bundle.kinds import open_stage
from kvspark.model.bundle.manifest import (
    FORMAT,
    MANIFEST,
    checked_name,
    encoded,
    spec_of,
    stage_of,
)
from kvspark.model.run.computation import Computation
from kvspark.model.run.device import CPU, DeviceClass, device_class
from kvspark.model.stage.stage import Stage, fingerprinted
from kvspark.spec import LengthRule, MicroBatch, Shapes


@final
class Bundle:
    """The stages of a model and the way to their files."""

    def __init__(self, manifest: bytes, source: BundleFiles) -> None:
        """The bundle of `manifest`, whose files are in `source`.

        Raises:
            BundleError: the manifest is not one of this format.
        """
        try:
            value = json.loads(manifest)
            if value["format"] != FORMAT:
                raise BundleError(f"a bundle of format {value['format']}, expected {FORMAT}")
            self.name: str = value["name"]
            self.inputs = tuple(map(spec_of, value["inputs"]))
            self.outputs = tuple(map(spec_of, value["outputs"]))
            self.micro_batch = MicroBatch(**value["micro_batch"])
            self.length_rule = LengthRule(**value.get("lengths", {}))
            """In which lengths rows of varying length are computed."""
            self.has_single_rows: bool = value.get("single_rows", False)
            """True if only calls of one row are right: rows that share a call change each other."""
            self.knows_its_rows = "single_rows" in value
            """False if nobody tried whether rows change each other."""
            self._has_rule = "lengths" in value
            device = value.get("device")
            self.device: DeviceClass | None = None if device is None else device_class(device)
            """Where its graph stages are computed; None until somebody chose."""
            self.files: Mapping[str, Mapping[str, Any]] = value["files"]
            stages = [stage_of(item) for item in value["stages"]]
            self.stage_files: Mapping[str, tuple[str, ...]] = {
                item["name"]: tuple(map(checked_name, item["files"])) for item in value["stages"]
            }
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{MANIFEST} is damaged ({type(error).__name__}: {error})") from error
        self.manifest = manifest
        self.stages = fingerprinted(
            stages, self.micro_batch, self.length_rule, self.device or "cpu"
        )
        rows_are_own = self.knows_its_rows and not self.has_single_rows
        self._shapes = {
            stage.name: Shapes(stage.shape(self.micro_batch), self.length_rule, rows_are_own)
            for stage in stages
        }
        self.source = source

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
        return cls(manifest, FolderFiles(folder))

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
        stages = json.loads(self.manifest)["stages"]
        stages = [{k: v for k, v in item.items() if k != "rows"} for item in stages]
        return self._with(micro_batch=asdict(micro_batch), stages=stages)

    def with_own_rows(self, *, only_single: bool) -> Bundle:
        """The same model, whose rows were tried; `only_single`: it takes micro-batches of one row only."""
        return self._with(single_rows=only_single)

    def with_length_rule(self, rule: LengthRule) -> Bundle:
        """The same model, computed at the lengths of `rule`: other fingerprints where they are others."""
        usual = asdict(LengthRule())
        return self._with(lengths={k: v for k, v in asdict(rule).items() if v != usual[k]})

    def _with(self, **changes: object) -> Bundle:
        value = {**json.loads(self.manifest), **changes}
        return Bundle(encoded(value), self.source)

    def is_in(self, micro_batch: MicroBatch) -> bool:
        """True if all of its stages are called in micro-batches of these shapes."""
        return all(stage.shape(self.micro_batch) == micro_batch for stage in self.stages)

    def shapes_of(self, stage: Stage) -> Shapes:
        """In which shapes `stage` is called."""
        return self._shapes[stage.name]

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
        """The local path of a file; as `BundleFiles.path`."""
        return self.source.path(name, self)

    def computation(self, stage: Stage, *, threads: int, device: str = CPU) -> Computation:
        """Opens what `stage` runs, its weights and nobody else's, for calls with `threads` threads.

        A graph stage runs on `device`, all others on the CPU.

        Raises:
            BundleError: its files are missing or damaged.
            ModelError: there is no such device.
        """
        files = {PurePosixPath(name).name: self.path(name) for name in self.stage_files[stage.name]}
        return open_stage(stage, files, threads=threads, device=device)
