"""Audio features: the bytes of a sound file become the waveform that a model takes, as its first stage.

    bytes -> decode -> the mean of the channels -> resample -> cut or fill up -> float32 (samples,)

libsndfile decodes, by way of soundfile; `kvspark.model.features.resample` says how the rate is changed. Lossy
formats are decoded in floating point, so the keys of this stage hold the machine's arithmetic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import numpy.typing as npt

from kvspark.errors import RowError, UsageError
from kvspark.fingerprint import digest
from kvspark.model.features.features import Features, each_row, read_settings
from kvspark.model.features.resample import METHOD, Samples, needed, resample
from kvspark.model.run.computation import Computation
from kvspark.model.stage.stage import Stage
from kvspark.spec import BINARY, Rows, TensorSpec

if TYPE_CHECKING:
    import torch

SETTINGS_FILE = "audio.json"

_MAGIC = {"WAV": (b"RIFF", b"RIFX", b"RF64"), "FLAC": (b"fLaC",), "OGG": (b"OggS",)}
"""How a file of each format begins. libsndfile knows 20 more formats, which nobody reads to it here."""

FORMATS = tuple(_MAGIC)

MOST_CHANNELS = 64

SLOWEST, FASTEST = 1_000, 768_000
"""Samples a second that a file, or a model, may have."""

Waveform = npt.NDArray[np.float32]


@final
class AudioFeatures(Features):
    """A sound as a waveform: input `audio` (bytes of WAV, FLAC or Ogg), output float32 (samples,).

    16-bit samples become value / 32,768. A file that is damaged or empty, and one of another format,
    is refused by row. A WAV or Ogg file that was cut off is what is left of it, as for every player;
    a FLAC file says how long it was, and is refused.
    """

    kind = "audio"
    libraries = ("soundfile", "numpy")

    def __init__(
        self,
        *,
        rate: int,
        samples: int | None = None,
        max_seconds: float = 600.0,
        formats: Sequence[str] = FORMATS,
        output: str = "waveform",
        mask: str | None = None,
    ) -> None:
        """Features at `rate` samples a second.

        With `samples` every waveform has that many: a longer one is cut, a shorter one is filled up
        with zeros. Without it the length varies, and a sound of more than `max_seconds` is refused.
        `output` is what the model calls the waveform; `mask`, if it takes one, is what it calls an
        int64 tensor of the same length that is 1 for sound and 0 for what was filled up.

        Raises:
            UsageError: a setting that no sound could have.
        """
        if not SLOWEST <= rate <= FASTEST:
            raise UsageError(
                f"rate must be {SLOWEST:,} to {FASTEST:,} samples a second, got {rate}"
            )
        if samples is not None and samples < 1:
            raise UsageError(f"samples must be at least 1, got {samples}")
        if not 0 < max_seconds < float("inf"):
            raise UsageError(f"max_seconds must be positive, got {max_seconds}")
        unknown = [name for name in formats if name not in FORMATS]
        if unknown or not formats:
            raise UsageError(f"formats must be some of {', '.join(FORMATS)}, got {list(formats)}")
        self._settings: dict[str, Any] = {
            "rate": rate,
            "samples": samples,
            "max_seconds": float(max_seconds),
            "formats": sorted(formats),
            "mask": mask is not None,
        }
        self._names = (output,) if mask is None else (output, mask)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return (TensorSpec("audio", BINARY),)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        shape = (self._settings["samples"],)
        dtypes = ("float32", "int64")
        return tuple(
            TensorSpec(name, dtype, shape) for name, dtype in zip(self._names, dtypes, strict=False)
        )

    @property
    def pads(self) -> Mapping[str, int]:
        return dict.fromkeys(self._names, 0)

    @property
    def content(self) -> bytes:
        return digest("kvspark.audio", {**self._settings, "resample": METHOD})

    def write(self, folder: Path) -> None:
        (folder / SETTINGS_FILE).write_text(json.dumps(self._settings, sort_keys=True))

    def computation(self) -> AudioComputation:
        return AudioComputation(self._settings)

    def example(self) -> dict[str, torch.Tensor]:
        import torch

        count = self._settings["samples"] or self._settings["rate"]
        waves = np.random.default_rng(0).normal(0.0, 0.1, (2, count)).astype("<f4")
        mask = np.ones((2, count), dtype="<i8")
        # The second one is shorter.
        waves[1, count - count // 4 :] = 0
        mask[1, count - count // 4 :] = 0
        tensors = (torch.from_numpy(waves), torch.from_numpy(mask))
        return dict(zip(self._names, tensors, strict=False))


@final
class AudioComputation(Computation):
    """libsndfile, and a resampler of our own."""

    def __init__(self, settings: Mapping[str, Any], stage: str = "features") -> None:
        self._settings = settings
        self._stage = stage
        self._starts = tuple(start for name in settings["formats"] for start in _MAGIC[name])

    @classmethod
    def open(cls, stage: Stage, files: Mapping[str, Path]) -> AudioComputation:
        """The pre-processing of a bundle.

        Raises:
            BundleError: its settings cannot be read.
        """
        return cls(read_settings(stage, files[SETTINGS_FILE]), stage.name)

    def run(self, arguments: Sequence[Any]) -> tuple[Rows, ...]:
        (contents,) = arguments
        waves = [wave for _, wave in each_row(self._stage, "sound", contents, self._waveform)]
        masks = [np.ones(len(wave), dtype="<i8") for wave in waves]
        count = self._settings["samples"]
        columns: list[Rows] = [waves, masks]  # type: ignore[list-item]  # arrays of any dtype
        if count is not None:
            columns = [_filled(waves, count, "<f4"), _filled(masks, count, "<i8")]
        return tuple(columns if self._settings["mask"] else columns[:1])

    def _waveform(self, content: bytes) -> Waveform:
        had, mono = self._decoded(content)
        made = resample(mono, had, self._settings["rate"])
        wave: Waveform = made[: self._settings["samples"]].astype("<f4")
        return wave

    def _decoded(self, content: bytes) -> tuple[int, Samples]:
        """The rate, and the mean of the channels as far as it is needed."""
        import soundfile

        if not content.startswith(self._starts):
            raise RowError(f"is no {' or '.join(self._settings['formats'])}")
        with soundfile.SoundFile(BytesIO(content)) as sound:
            had, frames = sound.samplerate, self._frames(sound)
            read = sound.read(frames, dtype="float64", always_2d=True)
        if len(read) < frames:
            raise RowError(f"is cut short, {len(read):,} of {frames:,} samples are there")
        total = np.zeros(len(read))
        for channel in range(read.shape[1]):  # one by one: the order of the sum is fixed
            total += read[:, channel]
        return had, total / read.shape[1]

    def _frames(self, sound: Any) -> int:
        """How many samples of a channel are needed; checked before anything is decoded."""
        had, frames, settings = int(sound.samplerate), int(sound.frames), self._settings
        if not SLOWEST <= had <= FASTEST:
            raise RowError(f"has {had:,} samples a second, not {SLOWEST:,} to {FASTEST:,}")
        if sound.channels > MOST_CHANNELS:
            raise RowError(f"has {sound.channels} channels, more than {MOST_CHANNELS}")
        if frames < 1:
            raise RowError("has no samples")
        if settings["samples"] is not None:
            return min(frames, needed(settings["samples"], had, settings["rate"]))
        if frames > settings["max_seconds"] * had:
            raise RowError(f"is longer than {settings['max_seconds']:g} s (max_seconds)")
        return frames


def _filled(rows: Sequence[npt.NDArray[Any]], count: int, dtype: str) -> npt.NDArray[Any]:
    made = np.zeros((len(rows), count), dtype=dtype)
    for place, row in zip(made, rows, strict=True):
        place[: len(row)] = row
    return made
