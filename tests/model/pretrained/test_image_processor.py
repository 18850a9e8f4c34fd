"""Image processors of transformers as features: their pixels bit for bit, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from kvspark.errors import ModelError
from kvspark.model.pretrained.image_processor import image_features
from tests.pretrained_models import digits
from tests.real_models import photographs

PROCESSORS: dict[str, Callable[[], Any]] = {
    "vit": transformers.ViTImageProcessorPil,
    "vit-plain": lambda: transformers.ViTImageProcessorPil(
        size={"height": 24, "width": 32}, do_normalize=False, resample=3
    ),
    "clip": transformers.CLIPImageProcessorPil,
    "convnext": lambda: transformers.ConvNextImageProcessorPil(size={"shortest_edge": 224}),
    "convnext-384": transformers.ConvNextImageProcessorPil,
    "deit": transformers.DeiTImageProcessorPil,
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_pixels_are_the_processors_own_bit_for_bit(name: str, tmp_path: Path) -> None:
    processor = PROCESSORS[name]()
    processor.save_pretrained(tmp_path)
    contents = [*photographs().values(), *digits()[0][:3]]
    (made,) = image_features(tmp_path).computation().run([contents])
    for content, ours in zip(contents, made, strict=True):
        theirs = processor(Image.open(BytesIO(content)), return_tensors="np")["pixel_values"][0]
        assert ours.tobytes() == theirs.astype("<f4").tobytes()


def transparent() -> dict[str, bytes]:
    """Pictures with an alpha channel, a transparent colour of a palette, and without either, as files."""
    random = np.random.default_rng(1)
    whole = Image.fromarray(random.integers(0, 256, (40, 57, 4), dtype=np.uint8))
    palette = whole.convert("RGB").convert("P")
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "alpha": (whole, {}),
        "grey and alpha": (whole.convert("LA"), {}),
        "a transparent colour": (palette, {"transparency": 3}),
        "a palette": (palette, {}),
        "grey": (whole.convert("L"), {}),
    }
    files = {}
    for name, (picture, options) in kinds.items():
        into = BytesIO()
        picture.save(into, "PNG", **options)
        files[name] = into.getvalue()
    return files


@pytest.mark.parametrize("converts", [True, False, None])
def test_what_is_transparent_is_white_where_the_processor_makes_it_so(
    converts: bool | None, tmp_path: Path
) -> None:
    processor: Any = transformers.ViTImageProcessorPil(
        size={"height": 24, "width": 24}, do_convert_rgb=converts
    )
    processor.save_pretrained(tmp_path)
    contents = transparent()
    (made,) = image_features(tmp_path).computation().run([list(contents.values())])
    for (name, content), ours in zip(contents.items(), made, strict=True):
        picture: Any = Image.open(BytesIO(content))
        # A processor that makes nothing RGB is given what is.
        given = picture if converts else picture.convert("RGB")
        theirs = processor(given, return_tensors="np")["pixel_values"][0]
        assert ours.tobytes() == theirs.astype("<f4").tobytes(), name


@pytest.mark.parametrize(
    ("kind", "options", "why"),
    [
        ("ViT", {"do_resize": False}, "it does not resize"),
        ("ViT", {"size": {"shortest_edge": 32}}, "it gives"),
        ("EfficientNet", {"rescale_offset": True}, "differ by up to"),
    ],
    ids=["no-resize", "no-crop", "an-offset"],
)
def test_a_processor_with_other_steps_is_refused(
    tmp_path: Path, kind: str, options: dict[str, Any], why: str
) -> None:
    getattr(transformers, f"{kind}ImageProcessorPil")(**options).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=f"takes steps that ImageFeatures does not .*{why}"):
        image_features(tmp_path)
