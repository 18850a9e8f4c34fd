"""Functions that tests score with: a worker imports them by name."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np


def doubled(x: Any) -> Any:
    """x: float32 (rows, 4) -> float32 (rows, 4)."""
    return x * np.float32(2)


def same(x: Any) -> Any:
    """What it is given: the entry of a row holds the row."""
    return x.copy()


def described(x: Any, y: Any) -> Any:
    """Two inputs, two results by name."""
    return {"low": np.minimum(x, y), "total": (x + y).sum(axis=1)}


def paired(x: Any, y: Any) -> Any:
    """The results of `described` as a tuple."""
    made = described(x, y)
    return made["low"], made["total"]


def centred(x: Any) -> Any:
    """Mixes rows: what a row gets depends on the others."""
    return x - x.mean(axis=0, keepdims=True)


def mixing_small(x: Any) -> Any:
    """Mixes rows where all of them are small, as none is that is tried when a model is made."""
    return centred(x) if (np.abs(x) < 1e-6).all() else x.copy()


def per_token(x: Any) -> Any:
    """x: int64 (rows, length) -> float32 (rows, length)."""
    return np.sqrt(x.astype("float32"))


def unlike_zero(x: Any) -> Any:
    """x: int64 (rows, length) -> the squares of a row's numbers that are not 0, as many as there are."""
    return [row[row != 0].astype("float32") ** 2 for row in x]


def unlike_zero_as_objects(x: Any) -> Any:
    """The results of `unlike_zero` in an array of objects."""
    made = np.empty(len(x), dtype=object)
    made[:] = unlike_zero(x)
    return made


def halved(x: Any) -> Any:
    """Loses rows."""
    return x[: len(x) // 2]


_BUFFER = np.zeros((32, 4), dtype="float32")


def reused(x: Any) -> Any:
    """Gives the same buffer at each call, as many runtimes do."""
    np.multiply(x, np.float32(3), out=_BUFFER[: len(x)])
    return _BUFFER[: len(x)]


def strict(x: Any) -> Any:
    """Refuses a negative row, and quotes it."""
    if (x < 0).any():
        raise ValueError(f"cannot score {x[(x < 0).any(axis=1)]}")
    return x * np.float32(2)


def dear(x: Any) -> Any:
    """As `doubled`, and each call takes the seconds that the environment says."""
    time.sleep(float(os.environ.get("KVSPARK_TEST_CALL_S", "0")))
    return x * np.float32(2)


def plain_mean(x: Any) -> Any:
    """x: float32 (rows, length) -> float32 (rows,); padding weighs in it."""
    return x.sum(axis=1) / np.float32(max(x.shape[1], 1))


def masked_mean(x: Any) -> Any:
    """x: float32 (rows, length) -> float32 (rows,): of the numbers that are not 0."""
    return x.sum(axis=1) / np.maximum((x != 0).sum(axis=1), 1).astype("float32")


def stuck(x: Any) -> Any:
    """As `doubled`, but a task stays in it, and says so by making a file that the environment names."""
    from pyspark import TaskContext

    if TaskContext.get() is not None:
        Path(os.environ["KVSPARK_TEST_STUCK"]).touch()
        time.sleep(600)
    return x * np.float32(2)


def placed(x: Any) -> Any:
    """Adds a row's place in its call."""
    return x + np.arange(len(x), dtype="float32")[:, None]


def shared(x: Any) -> Any:
    """Divides by the number of rows of the call."""
    return x / np.float32(len(x))


_SEEN = {"calls": 0, "sum": np.float32(0)}


def counted(x: Any) -> Any:
    """Multiplies by the number of its calls."""
    _SEEN["calls"] += 1
    return x * np.float32(_SEEN["calls"])


def remembered(x: Any) -> Any:
    """Takes off a running mean of all that it has seen."""
    _SEEN["sum"] = _SEEN["sum"] * np.float32(0.9) + x.mean() * np.float32(0.1)
    return x - _SEEN["sum"]


def drawn(x: Any) -> Any:
    """Adds noise."""
    return x + np.random.default_rng().standard_normal(x.shape).astype("float32")


def timed(x: Any) -> Any:
    """Adds the time."""
    return x + np.float32(time.perf_counter_ns() % 1_000_000)


def listed(x: Any) -> Any:
    """A list of the rows of one result."""
    return list(x * np.float32(2))


def big_endian(x: Any) -> Any:
    """As `doubled`, in the other order of bytes."""
    return (x * np.float32(2)).astype(">f4")


def masked(x: Any) -> Any:
    """Leaves negative numbers out."""
    return np.ma.masked_array(x, mask=x < 0)


def leaving(x: Any) -> Any:
    """Ends its process where a row is negative."""
    if (x < 0).any():
        raise SystemExit(3)
    return x.copy()


def positive_share(x: Any) -> Any:
    """The share of the call's sum that a row has; refuses what is not positive."""
    if (x <= 0).any():
        raise ValueError("not positive")
    return x / x.sum()


def squeezed(x: Any) -> Any:
    """One number a row, and none of a batch for a single row."""
    return np.squeeze(x.sum(axis=1, keepdims=True))


def without_nan(x: Any) -> Any:
    """Takes off a mean where a number of any row is missing."""
    return x - np.nanmean(x) if np.isnan(x).any() else x.copy()


def finite_only(x: Any) -> Any:
    """Refuses what is not finite, as scikit-learn does."""
    if not np.isfinite(x).all():
        raise ValueError("Input contains NaN")
    return x.copy()


def filled(x: Any) -> Any:
    """Fills what is missing with the mean of all rows."""
    return np.where(np.isnan(x), np.nanmean(x, dtype="float32"), x)
