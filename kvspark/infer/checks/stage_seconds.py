"""What a row takes at one stage on machines of one arithmetic: measured once, and kept in the cache.

That it is there says as well that a preflight has checked the stage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np

from kvspark.fingerprint import digest
from kvspark.model.run.numerics import place_of
from kvspark.model.stage.stage import Stage
from kvspark.spec import TensorSpec

if TYPE_CHECKING:
    from kvspark.cache.cache import Cache

_SPECS = (TensorSpec("seconds", "float64"),)
_ROW = [b""]


@final
class StageSeconds:
    """The seconds of `stage`, computed with `threads` threads on `device`."""

    def __init__(self, cache: Cache, stage: Stage, threads: int, device: str) -> None:
        identity = digest("kvspark.timed", [stage.fingerprint, place_of(stage, threads, device)])
        self._space = cache.keyspace(identity, _SPECS)

    def known(self) -> float | None:
        """Seconds of a row; None where nobody has measured them."""
        known = self._space.lookup(self._space.digests(_ROW))
        return float(np.asarray(known.columns[0])[0]) if known.found[0] else None

    def remember(self, seconds: float) -> None:
        """Keeps that a row takes `seconds`; best effort."""
        self._space.insert(self._space.digests(_ROW), (np.array([seconds]),), cost_us=0)
