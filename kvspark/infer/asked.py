"""What is known of rows before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import numpy.typing as npt

from kvspark.infer.microbatch import Values


@final
@dataclass(frozen=True, slots=True)
class Asked:
    """What is known of keys at one stage."""

    found: npt.NDArray[np.bool_]
    """For each key, whether its values were found."""
    values: Values
    """Of the found keys, in their order."""
