"""Rows by their keys, before anything is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt


@final
@dataclass(frozen=True, slots=True)
class Keyed:
    """The distinct keys of n rows at one stage."""

    keys: list[bytes]
    """In order of first row."""
    key_of_row: npt.NDArray[np.intp]
    """(n,): for each row, the place of its key."""
    first_row: npt.NDArray[np.intp]
    """For each key, the first row that has it."""
