"""Audio features: the samples of a file at the model's rate, the same everywhere, or an error by row."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from kvspark.cache.cache import Cache
from kvspark.errors import RowError, UsageError
from kvspark.infer.model import Model
from kvspark.model.features.audio import SETTINGS_FILE, AudioFeatures
from kvspark.model.features.resample import needed, resample
from kvspark.plan.plan import Plan, StagePlan
from kvspark.spec import MicroBatch
from tests.small_models import seeded

RATE = 8000


def tone(hertz: float, rate: int = RATE, seconds: float = 0.25) -> np.ndarray:
    """float64 (samples,)"""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def encoded(samples: np.ndarray, kind: str = "WAV", rate: int = RATE, **options: Any) -> bytes:
    into = BytesIO()
    soundfile.write(into, samples, rate, format=kind, **options)
    return into.getvalue()


def waves(content: bytes | list[bytes], **settings: Any) -> Any:
    rows = content if isinstance(content, list) else [content]
    return AudioFeatures(**{"rate": RATE, **settings}).computation().run([rows])[0]


class Loudness(torch.nn.Module):
    """Takes sounds of any length, and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = torch.nn.Conv1d(1, 4, 3, padding=1)
        self.head = torch.nn.Linear(4, 2)

    def forward(self, waveform: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        loud = self.filters(waveform.unsqueeze(1)).abs() * mask.unsqueeze(1)
        return self.head(loud.sum(-1) / mask.sum(-1, keepdim=True))


# ---------------------------------------------------------------- which samples


@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
def test_samples_of_16_bits_keep_their_values(kind: str) -> None:
    values = np.random.default_rng(0).integers(-32768, 32768, 500).astype(np.int16)
    (got,) = waves(encoded(values, kind))
    assert got.dtype == np.float32
    assert np.array_equal(got, values.astype(np.float32) / 32768)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_an_ogg_file_is_decoded_as_libsndfile_does(subtype: str) -> None:
    content = encoded(tone(300), "OGG", subtype=subtype)
    expected, _ = soundfile.read(BytesIO(content), dtype="float32")
    assert np.array_equal(waves(content)[0], expected)


def test_channels_become_their_mean() -> None:
    left, right = tone(300), tone(700)
    content = encoded(np.stack([left, right], axis=1), subtype="DOUBLE")
    assert np.array_equal(waves(content)[0], ((left + right) / 2).astype(np.float32))


def test_a_sound_is_cut_or_filled_up_to_a_number_of_samples() -> None:
    long, short = tone(300), tone(300)[:100]
    made = waves([encoded(long), encoded(short)], samples=150)
    assert made.shape == (2, 150)
    assert np.array_equal(made[0], waves(encoded(long))[0][:150])
    assert not made[1, 100:].any()
    assert made[1, :100].any()


def test_lengths_vary_where_no_number_of_samples_is_given() -> None:
    assert [len(row) for row in waves([encoded(tone(300)), encoded(tone(300)[:7])])] == [2000, 7]


@pytest.mark.parametrize("samples", [None, 10])
def test_a_mask_tells_sound_from_silence_that_was_added(samples: int | None) -> None:
    features = AudioFeatures(rate=RATE, samples=samples, mask="mask")
    _, mask = features.computation().run([[encoded(tone(300)[:4]), encoded(tone(300)[:20])]])
    expected = [[1] * 4, [1] * 20] if samples is None else [[1] * 4 + [0] * 6, [1] * 10]
    assert [row.tolist() for row in mask] == expected


# ---------------------------------------------------------------- another rate


@pytest.mark.parametrize(("had", "wanted"), [(44_100, 16_000), (8000, 16_000), (16_000, 11_025)])
def test_a_tone_is_the_same_tone_at_another_rate(had: int, wanted: int) -> None:
    made = resample(tone(440, had), had, wanted)
    expected = tone(440, wanted, seconds=1)[: len(made)]
    assert len(made) == -(-had // 4 * wanted // had)
    inside = slice(wanted // 50, -wanted // 50)
    assert np.abs(made - expected)[inside].max() < 1e-4


def test_a_tone_above_the_new_nyquist_frequency_is_gone() -> None:
    made = resample(tone(10_000, 44_100), 44_100, 16_000)
    assert np.abs(made)[300:-300].max() < 1e-3


@given(
    st.integers(1, 300),
    st.sampled_from([(3, 2), (2, 3), (441, 160), (160, 441), (5, 1), (1, 5), (4, 4)]),
    st.integers(1, 300),
)
def test_the_first_samples_need_the_first_samples_only(
    count: int, rates: tuple[int, int], first: int
) -> None:
    samples = np.random.default_rng(count).normal(size=count)
    whole = resample(samples, *rates)[:first]
    part = resample(samples[: needed(first, *rates)], *rates)[:first]
    assert part.tobytes() == whole.tobytes()


def test_resampled_bits_are_the_golden_ones() -> None:
    """Written down once: other taps, or another order of the sum, need another METHOD."""
    made = resample(np.arange(8) / 8, 3, 2).astype("<f4")
    assert made.tobytes().hex() == "2a59ce3c198c283e90f3d03e9c5e023fedb05a3f1c27e33e"


def test_a_file_of_another_rate_is_resampled_as_far_as_it_is_needed() -> None:
    content = encoded(tone(440, 44_100), rate=44_100, subtype="DOUBLE")
    whole = resample(tone(440, 44_100), 44_100, RATE).astype(np.float32)
    assert np.array_equal(waves(content)[0], whole)
    assert np.array_equal(waves(content, samples=900)[0], whole[:900])
    assert np.array_equal(waves(content, samples=3000)[0, : len(whole)], whole)


# ---------------------------------------------------------------- which rows are refused


FLAC = encoded(np.random.default_rng(0).normal(0, 0.1, 20_000), "FLAC")
BAD: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "no sound": (b"SECRET", {}, "is no FLAC or OGG or WAV"),
    "nothing": (b"", {}, "is no FLAC or OGG or WAV"),
    "only a beginning": (b"RIFFSECRET", {}, "cannot be decoded"),
    "cut off": (FLAC[: len(FLAC) // 2], {}, "cannot be decoded|is cut short"),
    "no samples": (encoded(np.zeros(0)), {}, "has no samples"),
    "another format": (encoded(tone(300), "AIFF"), {}, "is no FLAC or OGG or WAV"),
    "a format left out": (FLAC, {"formats": ("WAV", "OGG")}, "is no OGG or WAV"),
    "too long": (encoded(tone(300)), {"max_seconds": 0.2}, "is longer than 0.2 s"),
    "too slow": (encoded(tone(300), rate=100), {}, "has 100 samples a second"),
    "too many channels": (encoded(np.zeros((4, 65))), {}, "has 65 channels"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_sound_is_an_error_of_its_row_that_does_not_quote_it(case: str) -> None:
    content, settings, trouble = BAD[case]
    good = encoded(tone(300)[:100])
    with pytest.raises(RowError, match="row 1 of the batch: stage 'features': the sound") as bad:
        waves([good, content], **settings)
    assert any(text in str(bad.value) for text in trouble.split("|"))
    assert bad.value.__cause__ is None
    assert bad.value.__suppress_context__
    assert "SECRET" not in str(bad.value)


def test_a_long_sound_is_no_trouble_where_only_its_beginning_is_needed() -> None:
    assert waves(encoded(tone(300)), samples=10, max_seconds=0.001).shape == (1, 10)


# ---------------------------------------------------------------- as a stage


def loudness(samples: int | None) -> Model:
    return Model.from_torch(
        seeded(Loudness()),
        features=AudioFeatures(rate=RATE, samples=samples, mask="mask"),
        cuts=None,
        micro_batch=MicroBatch(),
    )


@pytest.mark.parametrize("samples", [None, 1000])
def test_a_saved_model_of_sounds_scores_them_and_remembers_them(
    tmp_path: Path, samples: int | None
) -> None:
    rows = [encoded(tone(200 + 50 * i)[: 1900 - 300 * i]) for i in range(6)]
    model = loudness(samples)
    model.save(tmp_path / "model")
    loaded = Model.load(tmp_path / "model")
    assert loaded.fingerprint == model.fingerprint
    cache = Cache.connect(f"memory://sounds-{samples}", namespace="tests")
    plan = Plan({"features": StagePlan(cached=True), "output": StagePlan(cached=False)})
    plain = model.predict({"audio": rows})["output"]
    assert np.isfinite(plain).all()
    assert len({row.tobytes() for row in plain}) == 6
    for _ in range(2):
        got = loaded.predict({"audio": rows}, cache=cache, plan=plan)["output"]
        assert got.tobytes() == plain.tobytes()
    assert not cache.drain().errors


@pytest.mark.parametrize("samples", [None, 1000])
def test_a_bad_sound_is_named_by_its_place_in_its_batch(samples: int | None) -> None:
    good = encoded(tone(300))
    with pytest.raises(RowError, match="row 2 of the batch: stage 'features'"):
        loudness(samples).predict({"audio": [good, good, b"?"]})


def test_keys_of_sounds_hold_the_arithmetic_of_the_machine_and_those_of_pictures_do_not() -> None:
    first = loudness(1000).stages[0]
    has = {kind: replace(first, kind=kind).has_arithmetic for kind in ("audio", "image", "text")}
    assert has == {"audio": True, "image": False, "text": False}


# ---------------------------------------------------------------- the fingerprint


CHANGES: dict[str, Any] = {
    "rate": 16_000,
    "samples": 101,
    "max_seconds": 9.0,
    "formats": ("WAV",),
    "mask": "mask",
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_setting_is_in_the_fingerprint(name: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"rate": RATE, "samples": 100}
    before = AudioFeatures(**settings)
    assert AudioFeatures(**{**settings, name: CHANGES[name]}).content != before.content
    before.write(tmp_path)
    assert set(json.loads((tmp_path / SETTINGS_FILE).read_text())) == set(CHANGES)
    assert AudioFeatures(**settings, output="wave").content == before.content


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 999}, "rate must be 1,000 to"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"max_seconds": float("inf")}, "max_seconds must be positive"),
        ({"formats": ("MP3",)}, "formats must be some of WAV, FLAC, OGG"),
        ({"formats": ()}, "formats must be some of"),
    ],
    ids=str,
)
def test_a_setting_that_no_sound_has_is_a_usage_error(
    settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        AudioFeatures(**{"rate": RATE, **settings})
