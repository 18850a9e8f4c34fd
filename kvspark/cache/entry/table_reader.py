"""The opening of the slabs of one look-up: what all of them have in common is made once.

A look-up of large values comes in parts of a few rows. Joining their digests, comparing their headers
field by field and building what a seal binds them to took as long for each part as for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias, final

import numpy as np
import numpy.typing as npt

from kvspark.cache.entry.header import TIMES_AT
from kvspark.cache.seal.base import KEY_ID_AT, KEY_ID_END, TAIL_AT, TENSORS_AT, Seal, Table
from kvspark.fingerprint import DIGEST_BYTES

Rows: TypeAlias = "slice | npt.NDArray[np.intp]"
"""Which rows of a look-up."""


@final
class Opening:
    """Opens the entries of `digests`, whose headers are `template` but for key, times and digest."""

    def __init__(self, template: Table, seal: Seal, digests: Sequence[bytes]) -> None:
        self._seal = seal
        count, head_bytes = len(digests), len(template)
        joined = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(count, DIGEST_BYTES)
        self._bound = np.empty((count, DIGEST_BYTES + head_bytes), dtype=np.uint8)
        """Each digest with the header that came for it: what a seal binds a payload to."""
        self._bound[:, :DIGEST_BYTES] = joined
        self._expected = np.empty((count, head_bytes), dtype=np.uint8)
        self._expected[:] = template
        self._expected[:, TAIL_AT:TENSORS_AT] = joined[:, DIGEST_BYTES // 2 :]

    def open(self, table: Table, rows: Rows, room: Table) -> bool:
        """True if `table` holds entries of `rows` that are right in every byte; `room` has their payloads then."""
        bound, expected = self._bound[rows], self._expected[rows]
        heads = bound[:, DIGEST_BYTES:]
        heads[:] = table[:, : heads.shape[1]]
        expected[:, TIMES_AT:TAIL_AT] = heads[:, TIMES_AT:TAIL_AT]
        if self._seal.key_id:
            # It may be another one than that which closes now: the seal knows.
            expected[:, KEY_ID_AT:KEY_ID_END] = heads[:, KEY_ID_AT:KEY_ID_END]
        # As bytes, at a fifth of what comparing arrays takes where a table has few rows.
        return heads.tobytes() == expected.tobytes() and self._seal.open_slab(table, bound, room)
