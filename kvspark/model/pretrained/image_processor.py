"""ImageFeatures as a preprocessor_config.json of transformers describes them, or a refusal.

The steps are compared on pictures of several shapes with what the folder's own processor gives, in its
Pillow form, bit for bit: a processor that does anything else is refused, never approximated.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from kvspark.errors import ModelError, UsageError
from kvspark.model.features.image import ImageFeatures
from kvspark.model.pretrained.transformer import first_line

PROCESSOR_FILE = "preprocessor_config.json"

_WARPED = 384
"""From this size on ConvNeXT's processor resizes to a square and crops nothing."""

_WHITE = (255, 255, 255)

_SHAPES = ((37, 53), (301, 200), (64, 64), (90, 401))
"""Heights and widths of the pictures on which both are compared: smaller and larger, upright and flat."""


def image_features(folder: Path) -> ImageFeatures:
    """The pre-processing of the image processor in `folder`, bit-equal to its Pillow form.

    Raises:
        ModelError: there is none, or it takes steps that ImageFeatures does not.
    """
    try:
        from transformers import AutoImageProcessor

        processor = AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, backend="pil"
        )
    # transformers raises what it likes for a missing file, a missing package, an unknown class.
    except Exception as error:
        raise ModelError(
            f"{folder / PROCESSOR_FILE} gives no image processor "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    try:
        features = ImageFeatures(**_steps(processor))
    except (UsageError, ValueError, KeyError) as error:
        raise _unlike(folder, processor, first_line(error)) from error
    _compare(folder, processor, features)
    return features


def _steps(processor: Any) -> dict[str, Any]:
    """The arguments of ImageFeatures."""
    if not processor.do_resize:
        raise UsageError("it does not resize, so pictures have no common size")
    size, crop = _size(processor)
    mean, std = _triple(0.0), _triple(1.0)
    if processor.do_normalize:
        mean, std = _triple(processor.image_mean), _triple(processor.image_std)
    return {
        "size": size,
        "crop": crop,
        "mean": mean,
        "std": std,
        "scale": 1.0 / processor.rescale_factor if processor.do_rescale else 1.0,
        "resample": _filter(processor.resample),
        "rounding": "down",
        # Where the processor itself makes pictures RGB, what is transparent becomes white.
        "background": _WHITE if getattr(processor, "do_convert_rgb", None) else None,
    }


def _size(processor: Any) -> tuple[int | tuple[int, int], tuple[int, int] | None]:
    wanted = processor.size
    height, width, short = wanted.height, wanted.width, wanted.shortest_edge
    crop = None
    if getattr(processor, "do_center_crop", None):
        crop = (int(processor.crop_size.height), int(processor.crop_size.width))
    if height and width:
        return (int(height), int(width)), crop
    if not short or wanted.longest_edge:
        raise UsageError(f"it resizes to {wanted}")
    share = getattr(processor, "crop_pct", None)
    if share is None or crop is not None:
        return int(short), crop
    if short >= _WARPED:
        return (int(short), int(short)), None
    return int(short / share), (int(short), int(short))


def _filter(resample: Any) -> str:
    from PIL import Image

    return Image.Resampling(int(resample)).name.lower()


def _triple(values: Any) -> tuple[float, ...]:
    return tuple(values) if isinstance(values, list | tuple) else (float(values),) * 3


def _compare(folder: Path, processor: Any, features: ImageFeatures) -> None:
    from PIL import Image

    random = np.random.default_rng(5)
    pictures = [
        Image.fromarray(random.integers(0, 256, (*shape, 3), dtype=np.uint8)) for shape in _SHAPES
    ]
    if getattr(processor, "do_convert_rgb", None):
        pixels = random.integers(0, 256, (*_SHAPES[0], 4), dtype=np.uint8)
        pictures += [Image.fromarray(pixels), Image.fromarray(pixels).convert("L")]
    contents = []
    for picture in pictures:
        into = BytesIO()
        picture.save(into, "PNG")
        contents.append(into.getvalue())
    (given,) = features.computation().run([contents])
    for picture, ours in zip(pictures, given, strict=True):
        made = processor(picture, return_tensors="np")
        theirs = made.get("pixel_values")
        if set(made) != {"pixel_values"} or theirs is None or theirs.shape[1:] != ours.shape:
            got = {name: array.shape for name, array in made.items()}
            raise _unlike(folder, processor, f"it gives {got}, expected pixel_values {ours.shape}")
        if theirs[0].astype("<f4").tobytes() != ours.tobytes():
            apart = float(np.abs(theirs[0] - ours).max())
            raise _unlike(folder, processor, f"its pixel values differ by up to {apart:.2g}")


def _unlike(folder: Path, processor: Any, why: str) -> ModelError:
    return ModelError(
        f"{folder}: {type(processor).__name__} takes steps that ImageFeatures does not ({why}); use "
        "Model.from_torch with ImageFeatures of your own, or with pixel values as a tensor column"
    )
