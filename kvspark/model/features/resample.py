"""A sound at another sampling rate, the same samples on every machine.

A windowed sinc: each new sample is a sum over the old ones around it. It is added tap by tap, as
multiplications and additions of whole arrays, which IEEE 754 fixes to the bit; a matrix product
would add in whatever order is fast. The taps come from sines, whose last bit differs between
machines, and are rounded to 32 binary places, which is beyond 24-bit sound.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]

ZERO_CROSSINGS = 16
"""Of the sinc on either side: the taps reach that far."""

ROLLOFF = 0.945
"""The cut-off as a share of the lower rate's Nyquist frequency. From 44,100 to 16,000 a second a tone of
3,700 Hz stays to 1e-4, one of 7,000 loses 5 %, of one of 9,000 two thousandths are left: 200 s of
sound are done in a second."""

METHOD = ("hann sinc", ZERO_CROSSINGS, ROLLOFF)
"""Names what is computed here; part of the fingerprint of a stage that resamples."""

_PLACES = 2.0**32


def resample(samples: Samples, had: int, wanted: int) -> Samples:
    """`samples` at the rate `wanted` in place of `had`: float64 (ceil(n * wanted / had),).

    Silence is taken to lie before and behind.
    """
    if had == wanted:
        return samples
    up, down = _ratio(had, wanted)
    taps = _taps(up, down)
    reach = len(taps) // 2
    place = np.arange(-(-len(samples) * up // down)) * down
    first, phase = place // up, place % up
    padded = np.concatenate([np.zeros(reach - 1), samples, np.zeros(reach + 1)])
    made = np.zeros(len(place))
    for shift, tap in enumerate(taps):
        made += padded[shift:].take(first) * tap.take(phase)
    return made


def needed(count: int, had: int, wanted: int) -> int:
    """How many samples at rate `had` decide the first `count` at rate `wanted`."""
    if had == wanted:
        return count
    up, down = _ratio(had, wanted)
    return (count - 1) * down // up + len(_taps(up, down)) // 2 + 1


def _ratio(had: int, wanted: int) -> tuple[int, int]:
    common = math.gcd(had, wanted)
    return wanted // common, had // common


@lru_cache(maxsize=4)
def _taps(up: int, down: int) -> Samples:
    """The weight of each old sample for a new one at each of `up` phases between two old ones.

    float64 (2 * reach, up)
    """
    cutoff = ROLLOFF * min(1.0, up / down)
    width = ZERO_CROSSINGS / cutoff
    reach = math.ceil(width)
    distance = np.arange(up) / up - np.arange(1 - reach, 1 + reach)[:, None]
    window = np.where(np.abs(distance) < width, 0.5 + 0.5 * np.cos(np.pi * distance / width), 0.0)
    taps: Samples = np.round(cutoff * np.sinc(cutoff * distance) * window * _PLACES) / _PLACES
    return taps
