"""Image features: the pixels that a model was trained on, the same everywhere, or an error by row."""

from __future__ import annotations

import json
import pickle
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image, ImageFile

from kvspark.cache.cache import Cache
from kvspark.errors import BundleError, DataError, ExportError, RowError, UsageError
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.model.features.image import SETTINGS_FILE, ImageFeatures
from kvspark.model.stage.library import build_of
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spec import MicroBatch
from tests.small_models import seeded

PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "scale": 1.0}


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    into = BytesIO()
    image.save(into, kind, **options)
    return into.getvalue()


def tensors(content: bytes | list[bytes], **settings: Any) -> np.ndarray:
    """float32 (rows, 3, height, width)"""
    rows = content if isinstance(content, list) else [content]
    (made,) = ImageFeatures(**{**PLAIN, **settings}).computation().run([rows])
    assert isinstance(made, np.ndarray)
    return made


def pixels(content: bytes, **settings: Any) -> np.ndarray:
    """uint8 (height, width, 3), as the model sees them."""
    return tensors(content, **settings)[0].transpose(1, 2, 0).astype(np.uint8)


PICTURE_BYTES = 3 * 16 * 16 * 4
"""One picture, as `small` takes it."""


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(3, 4, 3, stride=2)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.convolution(pixel_values)).mean((2, 3)))


def small(**settings: Any) -> Model:
    features = ImageFeatures(**{**PLAIN, "size": 16, "scale": 255.0, **settings})
    return Model.from_torch(
        seeded(Small()), features=features, cuts=None, micro_batch=MicroBatch(rows=32)
    )


# ---------------------------------------------------------------- which pixels


def test_a_picture_of_the_right_size_keeps_its_pixels() -> None:
    made = noise(6, 8)
    assert np.array_equal(pixels(encoded(made), size=(6, 8)), made)


def test_values_are_those_of_torch_to_the_bit() -> None:
    made, mean, std = noise(5, 5), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    got = tensors(encoded(made), size=5, scale=255.0, mean=mean, std=std)
    plain = torch.from_numpy(made).permute(2, 0, 1).float().div(255)
    expected = (plain - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    assert got[0].tobytes() == expected.contiguous().numpy().tobytes()


@pytest.mark.parametrize(
    ("size", "shape", "resized"), [((9, 7), (9, 7), (9, 7)), (10, (10, 10), (10, 17))]
)
def test_a_size_is_exact_or_of_the_shorter_side(
    size: Any, shape: tuple[int, int], resized: tuple[int, int]
) -> None:
    made = Image.fromarray(noise(20, 35))
    whole = np.asarray(made.resize(resized[::-1], Image.Resampling.BILINEAR))
    left = round((resized[1] - shape[1]) / 2)
    got = pixels(encoded(made), size=size)
    assert got.shape == (*shape, 3)
    assert np.array_equal(got, whole[:, left : left + shape[1]])


@pytest.mark.parametrize(("had", "top"), [(4, 0), (5, 0), (6, 1), (7, 2), (8, 2), (9, 2)])
def test_the_centre_is_that_of_torchvision(had: int, top: int) -> None:
    """torchvision rounds half a pixel to even: 0.5 is 0, 1.5 is 2, 2.5 is 2."""
    made = noise(had, had)
    got = pixels(encoded(made), size=(had, had), crop=4)
    assert np.array_equal(got, made[top : top + 4, top : top + 4])


def test_a_photograph_stands_upright() -> None:
    made = noise(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    got = pixels(encoded(made, exif=exif), size=(6, 4))
    assert np.array_equal(got, np.rot90(made, -1))


def test_grey_palette_and_animated_pictures_are_rgb() -> None:
    grey = noise(4, 4, 1)
    assert np.array_equal(pixels(encoded(grey), size=4), np.stack([grey] * 3, axis=-1))
    palette = Image.fromarray(noise(4, 4)).quantize(8)
    expected = np.asarray(palette.convert("RGB"))
    assert np.array_equal(pixels(encoded(palette, transparency=b"\x00\x80"), size=4), expected)
    other = Image.new("P", (4, 4))
    film = encoded(palette, "GIF", save_all=True, append_images=[other])
    assert np.array_equal(pixels(film, size=4), expected)


def test_transparency_is_dropped_or_shows_the_background() -> None:
    made = np.full((2, 2, 4), (10, 20, 30, 0), dtype=np.uint8)
    assert pixels(encoded(made), size=2)[0, 0].tolist() == [10, 20, 30]
    assert pixels(encoded(made), size=2, background=(255, 0, 7))[0, 0].tolist() == [255, 0, 7]


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "TIFF", "BMP"])
def test_other_formats_are_decoded_as_pillow_does(kind: str) -> None:
    content = encoded(noise(8, 8), kind)
    assert np.array_equal(pixels(content, size=8), np.asarray(Image.open(BytesIO(content))))


# ---------------------------------------------------------------- which rows are refused


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return len(content).to_bytes(4, "big") + kind + content + checksum.to_bytes(4, "big")


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says how large it is."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


BAD = {
    "no picture": (b"SECRET", "cannot be decoded"),
    "empty": (b"", "cannot be decoded"),
    "truncated": (encoded(noise(64, 64))[:-500], "cannot be decoded"),
    "a truncated photograph": (encoded(noise(64, 64), "JPEG")[:-500], "cannot be decoded"),
    "another format": (encoded(noise(4, 4), "PPM"), "cannot be decoded"),
    "a bomb": (bomb(10_000, 10_000), "has more than 67,108,864 pixels"),
    "a larger bomb": (bomb(30_000, 30_000), "cannot be decoded"),
    "a line": (encoded(np.zeros((1, 60_000, 3), np.uint8)), "once it is resized"),
    "16 bits": (encoded(noise(4, 4, 1).astype(np.uint16)), "pixels of mode I;16"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_is_an_error_of_its_row_that_does_not_quote_it(case: str, recwarn) -> None:
    content, trouble = BAD[case]
    with pytest.raises(RowError, match=f"row 1 of the batch: stage 'features': .*{trouble}") as bad:
        tensors([encoded(noise(4, 4)), content], size=224 if case == "a line" else 4)
    assert bad.value.row == 1
    assert isinstance(bad.value, DataError)
    assert (bad.value.__cause__, bad.value.__suppress_context__) == (None, True)
    assert "SECRET" not in str(bad.value)
    assert not recwarn.list  # Pillow would warn of the smaller bomb before that.


def test_a_truncated_file_is_refused_whatever_else_the_process_asked_of_pillow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    Image.open(BytesIO(BAD["truncated"][0])).load()  # the fault is in force
    with pytest.raises(RowError):
        tensors(BAD["truncated"][0], size=4)
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_the_place_is_that_of_the_row_in_its_own_batch() -> None:
    known = [encoded(noise(16, 16, seed=seed)) for seed in range(6)]
    model = small()
    # Repeated rows before it, and another batch that waits with it.
    with pytest.raises(RowError, match="row 7 of the batch: stage 'features'"):
        model.predict({"image": [*known, known[0], b"?"]})
    batches = [known[:4], [known[5], known[0], known[1], b"?"]]
    columns = ((i, {"image": image_column(rows)}) for i, rows in enumerate(batches))
    stream = Predictor(compiled_plan(model.bundle)).stream(columns)
    with pytest.raises(RowError, match="row 3 of the batch") as bad:
        list(stream)
    assert str(pickle.loads(pickle.dumps(bad.value))) == str(bad.value)


def test_the_place_is_right_beyond_the_rows_that_are_decoded_at_once() -> None:
    known = [encoded(noise(16, 16, seed=seed)) for seed in range(11)]
    with pytest.raises(RowError, match="row 11 of the batch"):
        small().predict({"image": [*known, b"?"]}, plan=Plan(max_held_bytes=1))


def image_column(rows: list[bytes]) -> pa.Array:
    return pa.array(rows, pa.binary())


# ---------------------------------------------------------------- as a stage


def test_a_model_of_pictures_gives_the_bits_of_its_module() -> None:
    rows = [encoded(noise(20 + seed, 30, seed=seed)) for seed in range(4)]
    model = small()
    assert [(spec.name, spec.dtype) for spec in model.inputs] == [("image", "binary")]
    assert model.stages[0].bytes_per_row == PICTURE_BYTES
    with torch.inference_mode():
        given = torch.from_numpy(tensors(rows, size=16, scale=255.0))
        expected = seeded(Small())(given).numpy()
    assert model.predict({"image": rows})["output"].tobytes() == expected.tobytes()


def test_rows_are_decoded_in_parts_and_the_bits_stay() -> None:
    rows = [encoded(noise(16, 16, seed=seed)) for seed in range(70)]
    model = small()
    whole = model.predict({"image": rows})["output"]
    parts = Plan(max_held_bytes=40 * PICTURE_BYTES)  # one micro-batch of 32
    for plan in (Plan(max_held_bytes=1 << 30), parts):
        predictor = Predictor(compiled_plan(model.bundle, plan))
        predictor.predict({"image": image_column(rows)})
        stats = predictor.drain().stages["output"]
        assert (stats.micro_batches, stats.padding_rows) == (3, 26)
    assert model.predict({"image": rows}, plan=parts)["output"].tobytes() == whole.tobytes()


def test_decoded_pictures_can_be_cached_like_any_stage() -> None:
    rows = [encoded(noise(16, 16, seed=seed)) for seed in range(5)]
    model = small()
    cache = Cache.connect("memory://pictures", namespace="tests")
    plan = Plan({"features": StagePlan(cached=True), "output": StagePlan(cached=False)})
    first = model.predict({"image": rows}, cache=cache, plan=plan)["output"]
    compiled, threads = compiled_plan(model.bundle, plan), torch.get_num_threads()
    predictor = Predictor(compiled, cache=cache, threads=threads)
    predictor.predict({"image": image_column(rows)})
    assert predictor.drain().stages["features"].hits == 5
    assert first.tobytes() == model.predict({"image": rows})["output"].tobytes()


def test_a_bundle_gives_the_same_bits_and_fingerprints(tmp_path: Path) -> None:
    rows = [encoded(noise(30, 20)), encoded(noise(16, 50), "JPEG")]
    model = small(background=(1, 2, 3), formats=("JPEG", "PNG"))
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    assert loaded.fingerprint == model.fingerprint
    got, expected = loaded.predict({"image": rows}), model.predict({"image": rows})
    assert got["output"].tobytes() == expected["output"].tobytes()


def test_damaged_settings_are_a_bundle_error(tmp_path: Path) -> None:
    path = tmp_path / "image.json"
    path.write_text("{")
    model = small()
    with pytest.raises(BundleError, match="stage 'features': its settings cannot be read"):
        type(ImageFeatures(**PLAIN, size=4).computation()).open(
            model.stages[0], {"image.json": path}
        )


def test_example_inputs_of_another_shape_are_refused() -> None:
    features = ImageFeatures(**PLAIN, size=16)
    with pytest.raises(ExportError, match=r"shown 'pixel_values' as float32 \(3, 8, 8\)"):
        Model.from_torch(
            seeded(Small()), {"pixel_values": torch.zeros(2, 3, 8, 8)}, features=features
        )


# ---------------------------------------------------------------- the fingerprint


CHANGES: dict[str, Any] = {
    "size": 17,
    "crop": 15,
    "resample": "bicubic",
    "scale": 254.0,
    "mean": (0.0, 0.0, 0.1),
    "std": (1.0, 1.0, 0.9),
    "background": (0, 0, 0),
    "formats": ("PNG",),
    "max_pixels": 1000,
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_is_in_the_fingerprint(name: str, tmp_path: Path) -> None:
    after = ImageFeatures(**{**PLAIN, "size": 16, "crop": 16, name: CHANGES[name]})
    assert ImageFeatures(**PLAIN, size=16, crop=16).content != after.content
    after.write(tmp_path)
    assert json.loads((tmp_path / SETTINGS_FILE).read_text()).keys() == CHANGES.keys()


def test_names_and_the_order_of_formats_are_not_in_the_fingerprint() -> None:
    before = ImageFeatures(**PLAIN, size=16, formats=("PNG", "JPEG"))
    after = ImageFeatures(**PLAIN, size=16, formats=("JPEG", "PNG"), output="inputs")
    assert before.content == after.content
    assert [spec.name for spec in after.outputs] == ["inputs"]


def test_pillow_and_its_decoders_are_in_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "libjpeg_turbo" in build_of("pillow")
    model = small()
    monkeypatch.setattr("kvspark.model.stage.stage.build_of", lambda name: f"{name} changed")
    other = Model(model.bundle.with_micro_batch(MicroBatch(rows=64)))
    assert other.stages[0].fingerprint != model.stages[0].fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size must be"),
        ({"size": (4, 4, 4)}, "size must be"),
        ({"crop": 5}, r"crop \(5, 5\) is larger than size \(4, 4\)"),
        ({"resample": "cubic"}, "resample must be one of nearest"),
        ({"mean": (0.0,)}, "mean must be 3 finite numbers"),
        ({"std": (1.0, 0.0, 1.0)}, "std must not be 0"),
        ({"scale": float("nan")}, "scale must be 1 finite"),
        ({"formats": ("EPS",)}, "formats must be some of JPEG"),
        ({"background": (0, 0, 256)}, "background must be"),
        ({"max_pixels": 10**9}, "max_pixels must be 1 to"),
    ],
    ids=str,
)
def test_a_setting_that_no_picture_has_is_a_usage_error(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        ImageFeatures(**{**PLAIN, "size": 4, **settings})
