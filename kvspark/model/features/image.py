"""Image features: the bytes of a picture become the tensor that a model takes, as its first stage.

    bytes -> decode, upright by its EXIF orientation -> RGB -> resize -> crop the centre
          -> (value / scale - mean) / std, float32 (3, height, width)

Every step gives the same bits on every machine: Pillow resizes in integers, and the last step is
looked up in a table of 256 values a channel. Sizes are rounded as torchvision rounds them, so a
model that was trained with its Resize, CenterCrop, ToTensor and Normalize meets the same pixels.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
import numpy.typing as npt

from kvspark.errors import RowError, UsageError
from kvspark.fingerprint import digest
from kvspark.model.features.features import Features, each_row, read_settings
from kvspark.model.run.computation import Computation
from kvspark.model.stage.stage import Stage
from kvspark.spec import BINARY, Rows, TensorSpec

if TYPE_CHECKING:
    import torch
    from PIL import Image

SETTINGS_FILE = "image.json"

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""What is decoded if nothing else is asked for: Pillow knows 40 more, and one of them runs a program."""

MOST_PIXELS = 1 << 26
"""Pixels of the largest picture that is decoded, 67 million: 200 MB as RGB."""

PILLOWS_LIMIT = 89_478_485
"""Where Pillow itself starts to warn of a picture that is made to fill the memory."""

Resample = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
_RESAMPLES = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")

Rounding = Literal["even", "down"]

Size = int | tuple[int, int]
Pixels = npt.NDArray[np.uint8]
Table = npt.NDArray[np.float32]


@final
class ImageFeatures(Features):
    """A picture as a tensor: input `image` (bytes), output float32 (3, height, width).

    The first frame of an animation is the picture. Pixels of more than 8 bits, a damaged or
    truncated file and one of another format are refused by row, never guessed at.
    """

    kind = "image"
    libraries = ("pillow",)

    def __init__(
        self,
        *,
        size: Size,
        mean: Sequence[float],
        std: Sequence[float],
        crop: Size | None = None,
        resample: Resample = "bilinear",
        scale: float = 255.0,
        background: Sequence[int] | None = None,
        rounding: Rounding = "even",
        formats: Sequence[str] = FORMATS,
        max_pixels: int = MOST_PIXELS,
        output: str = "pixel_values",
    ) -> None:
        """Features that resize to `size` and crop the centre to `crop`.

        `size` is (height, width), or the length of the shorter side, whose picture is then cropped
        to a square of it where `crop` is left out. `mean` and `std` have one value for each of red,
        green and blue, in units of `scale`: 255 for values from 0 to 1, 1 for values from 0 to 255.
        `background` is the colour (0 to 255) behind transparent pixels; without it transparency is
        dropped and their own colour shows. `rounding` is where half a pixel goes that a crop leaves over:
        to an even number as in torchvision, or down as in transformers. `output` is what the model calls the tensor.

        Raises:
            UsageError: a setting that no picture could have.
        """
        edges = _pair("size", size)
        target = size if isinstance(size, int) else edges
        cropped = None if crop is None else _pair("crop", crop)
        if cropped is None and isinstance(size, int):
            cropped = edges
        _check_decoding(resample, formats, max_pixels)
        self._settings: dict[str, Any] = {
            "size": target,
            "crop": cropped,
            "resample": resample,
            "scale": _numbers("scale", [scale], 1, is_divisor=True)[0],
            "mean": _numbers("mean", mean, 3, is_divisor=False),
            "std": _numbers("std", std, 3, is_divisor=True),
            "background": None if background is None else _colour(background),
            "formats": sorted(formats),
            "max_pixels": max_pixels,
        }
        if rounding == "down":
            self._settings["rounding"] = rounding
        self._output = output
        self._shape = tuple(cropped or edges)
        if self._shape[0] > edges[0] or self._shape[1] > edges[1]:
            raise UsageError(f"crop {self._shape} is larger than size {tuple(edges)}")

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("image", BINARY),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec(self._output, "float32", (3, *self._shape)),)

    @property
    def pads(self) -> Mapping[str, int]:
        return {self._output: 0}

    @property
    def content(self) -> bytes:
        return digest("kvspark.image", self._settings)

    def write(self, folder: Path) -> None:
        (folder / SETTINGS_FILE).write_text(json.dumps(self._settings, sort_keys=True))

    def computation(self) -> ImageComputation:
        return ImageComputation(self._settings)

    def example(self) -> dict[str, torch.Tensor]:
        import torch

        noise = np.random.default_rng(0).integers(0, 256, (2, *self._shape, 3), dtype=np.uint8)
        table = _table(self._settings)
        made = np.empty((2, 3, *self._shape), dtype="<f4")
        for row, pixels in zip(made, noise, strict=True):
            _normalise(pixels, table, row)
        return {self._output: torch.from_numpy(made)}


@final
class ImageComputation(Computation):
    """Pillow, with settings of its own whatever else the process does with it."""

    def __init__(self, settings: Mapping[str, Any], stage: str = "features") -> None:
        from PIL import Image

        self._settings = settings
        self._stage = stage
        self._resample = Image.Resampling[settings["resample"].upper()]
        self._table = _table(settings)
        self._shape = tuple(settings["crop"] or settings["size"])

    @classmethod
    def open(cls, stage: Stage, files: Mapping[str, Path]) -> ImageComputation:
        """The pre-processing of a bundle.

        Raises:
            BundleError: its settings cannot be read.
        """
        return cls(read_settings(stage, files[SETTINGS_FILE]), stage.name)

    def run(self, arguments: Sequence[Any]) -> tuple[Rows, ...]:
        (contents,) = arguments
        made = np.empty((len(contents), 3, *self._shape), dtype="<f4")
        with _whole_files_only(), _our_limit_only():
            for row, pixels in each_row(self._stage, "picture", contents, self._pixels):
                _normalise(pixels, self._table, made[row])
        return (made,)

    def _pixels(self, content: bytes) -> Pixels:
        from PIL import Image, ImageOps

        settings = self._settings
        most = settings["max_pixels"]
        with Image.open(BytesIO(content), formats=settings["formats"]) as image:
            if image.width * image.height > most:
                raise RowError(f"has more than {most:,} pixels (max_pixels)")
            if image.mode.startswith(("I", "F")):
                raise RowError(f"has pixels of mode {image.mode}, which are not of 8 bits")
            ImageOps.exif_transpose(image, in_place=True)
            rgb = _rgb(image, settings["background"])
        height, width = _resized(settings["size"], rgb.height, rgb.width)
        # A line of 1 x 60,000,000 pixels, say, whose shorter side becomes 224.
        if height * width > most:
            raise RowError(f"would have more than {most:,} pixels once it is resized (max_pixels)")
        resized = np.asarray(rgb.resize((width, height), self._resample))
        return _centre(resized, self._shape, settings.get("rounding", "even"))


@contextmanager
def _our_limit_only() -> Iterator[None]:
    """Pillow's own limit says nothing where ours has its say, which is an error of the row."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


@contextmanager
def _whole_files_only() -> Iterator[None]:
    """A truncated file is an error, though somebody in this process may have asked for the opposite."""
    from PIL import ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def _rgb(image: Image.Image, background: Sequence[int] | None) -> Image.Image:
    from PIL import Image

    if image.has_transparency_data:
        # By way of RGBA: from a palette with transparency straight to RGB, Pillow warns.
        image = image.convert("RGBA")
        if background is not None:
            behind = Image.new("RGBA", image.size, (*background, 255))
            image = Image.alpha_composite(behind, image)
    return image.convert("RGB")


def _resized(size: int | Sequence[int], height: int, width: int) -> tuple[int, int]:
    if not isinstance(size, int):
        return size[0], size[1]
    short = min(height, width)
    return size * height // short, size * width // short


def _centre(pixels: Pixels, shape: Sequence[int], rounding: str) -> Pixels:
    whole = math.floor if rounding == "down" else round
    top, left = (whole((had - kept) / 2) for had, kept in zip(pixels.shape, shape, strict=False))
    return pixels[top : top + shape[0], left : left + shape[1]]


def _table(settings: Mapping[str, Any]) -> Table:
    """What each value of each channel becomes: float32 (3, 256), by float32 steps as torch takes them."""
    values = np.arange(256, dtype=np.float32) / np.float32(settings["scale"])
    mean, std = (np.array(settings[name], dtype=np.float32)[:, None] for name in ("mean", "std"))
    table: Table = (values - mean) / std
    return table


def _normalise(pixels: Pixels, table: Table, out: Table) -> None:
    for channel in range(3):
        out[channel] = table[channel][pixels[..., channel]]


def _pair(name: str, value: Any) -> list[int]:
    pair = [value, value] if isinstance(value, int) else list(value)
    if len(pair) != 2 or not all(isinstance(edge, int) and edge > 0 for edge in pair):
        raise UsageError(f"{name} must be a positive number or (height, width), got {value}")
    return pair


def _numbers(name: str, values: Sequence[float], count: int, *, is_divisor: bool) -> list[float]:
    numbers = [float(value) for value in values]
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise UsageError(f"{name} must be {count} finite numbers, got {values}")
    if is_divisor and 0.0 in numbers:
        raise UsageError(f"{name} must not be 0: values are divided by it")
    return numbers


def _colour(values: Any) -> list[int]:
    colour = list(values)
    if len(colour) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in colour):
        raise UsageError(f"background must be red, green and blue from 0 to 255, got {values}")
    return colour


def _check_decoding(resample: str, formats: Sequence[str], max_pixels: int) -> None:
    if resample not in _RESAMPLES:
        raise UsageError(f"resample must be one of {', '.join(_RESAMPLES)}, got {resample!r}")
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise UsageError(f"formats must be some of {', '.join(FORMATS)}, got {list(formats)}")
    if not 0 < max_pixels <= PILLOWS_LIMIT:
        raise UsageError(f"max_pixels must be 1 to {PILLOWS_LIMIT:,}, got {max_pixels:,}")
