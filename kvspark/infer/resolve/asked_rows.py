"""What is known of rows before anything is computed."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.cache.stage.ahead import Ahead
from kvspark.cache.stage.stage_cache import Lookup
from kvspark.infer.compute.values import Values


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of keys at one stage."""

    found: npt.NDArray[np.bool_]
    """For each key, whether its values were found."""
    values: Values
    """Of the found keys, in their order."""


def known_of(
    ahead: Ahead | None, keys: Sequence[bytes], pending: Container[bytes]
) -> Lookup | None:
    """What was found ahead of `keys`, but for those in `pending`; None if they must be looked up now."""
    found = None if ahead is None else ahead.lookup()
    if found is None or any(found.found[i] for i, key in enumerate(keys) if key in pending):
        return None
    return found
