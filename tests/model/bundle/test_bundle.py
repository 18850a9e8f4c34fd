"""A bundle on disk: opened stage by stage, checked byte by byte, never code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kvspark.errors import BundleError
from kvspark.infer.model import Model
from kvspark.model.run.program import build_program
from tests.small_models import Mlp, seeded

ROWS = torch.randn(20, 8, generator=torch.Generator().manual_seed(1))


def saved(folder: Path) -> Model:
    model = Model.from_torch(seeded(Mlp()), {"x": torch.zeros(3, 8)}, cuts=["trunk"])
    model.save(folder)
    return model


def test_a_loaded_model_has_the_fingerprints_and_the_bits_of_the_saved_one(tmp_path: Path) -> None:
    model = saved(tmp_path / "m")
    loaded = Model.load(tmp_path / "m")
    assert loaded.stages == model.stages
    assert (
        loaded.predict({"x": ROWS})["scores"].tobytes()
        == model.predict({"x": ROWS})["scores"].tobytes()
    )


def test_loading_reads_the_manifest_only(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    for file in (tmp_path / "m" / "stages").rglob("*.*"):
        file.unlink()
    assert [stage.name for stage in Model.load(tmp_path / "m").stages] == ["trunk", "output"]


def test_no_file_of_a_bundle_is_code(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    kinds = {path.suffix for path in (tmp_path / "m").rglob("*.*")}
    assert kinds == {".json", ".safetensors"}


@pytest.mark.parametrize("name", ["weights.safetensors", "graph.json"])
def test_a_flipped_byte_is_found_before_the_file_is_used(tmp_path: Path, name: str) -> None:
    saved(tmp_path / "m")
    file = tmp_path / "m" / "stages" / "trunk" / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"has sha256 .*the bundle is damaged"):
        Model.load(tmp_path / "m").predict({"x": ROWS})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    (tmp_path / "m" / "stages" / "output" / "graph.json").unlink()
    with pytest.raises(
        BundleError, match=r"graph\.json of model 'Mlp' cannot be read: No such file"
    ):
        Model.load(tmp_path / "m").predict({"x": ROWS})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is damaged"),
        ("[]", "is damaged"),
        ('{"format": 99}', "a bundle of format 99, expected 1"),
    ],
)
def test_a_foreign_manifest_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(BundleError, match=reason):
        Model.load(tmp_path)


def test_a_folder_without_a_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no model bundle"):
        Model.load(tmp_path)


def test_a_manifest_cannot_name_a_file_outside(tmp_path: Path) -> None:
    saved(tmp_path / "m")
    manifest = json.loads((tmp_path / "m" / "manifest.json").read_text())
    manifest["stages"][0]["files"][0] = "../outside"
    (tmp_path / "m" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="lies outside the bundle"):
        Model.load(tmp_path / "m")


def test_saving_over_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(BundleError, match="is not empty"):
        saved(tmp_path)
    assert (tmp_path / "kept.txt").read_text() == "kept"


@pytest.mark.parametrize(
    "operator",
    ["os.system.default", "aten.nothing.default", "python.eval", "aten.__class__.mro", "aten"],
)
def test_a_program_can_name_operators_only(operator: str) -> None:
    program = {
        "format": 1,
        "arguments": 1,
        "weights": [],
        "nodes": [[operator, [{"a": 0}], {}]],
        "outputs": [{"n": 0}],
    }
    with pytest.raises(BundleError):
        build_program(json.dumps(program).encode(), [], torch.device("cpu"))


def test_a_temporary_bundle_lives_as_long_as_its_models() -> None:
    model = Model.from_torch(seeded(Mlp()), {"x": torch.zeros(3, 8)})
    folder = model.bundle.path(next(iter(model.bundle.files))).parent
    derived = model.with_micro_batch(model.bundle.micro_batch)
    del model
    assert len(derived.predict({"x": ROWS})["scores"]) == 20
    del derived
    assert not folder.exists()
