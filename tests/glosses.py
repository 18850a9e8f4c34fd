"""Glosses of WordNet, as the demo's first night has them, for tests that need texts and not their variety."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from kvspark.demo.nights.night import shipped_nights


def short_glosses(rows: int) -> pa.Table:
    """The columns `id`, `text` and `label` of the first `rows` glosses of nearly one length.

    A text encoder is called with 32 rows of each length, however few are needed: the texts of 160 other
    rows have 14 lengths and take four times as long.
    """
    night = shipped_nights()[0].read()
    length = pc.utf8_length(night["text"])
    short = night.filter(pc.and_(pc.greater_equal(length, 30), pc.less_equal(length, 40)))
    assert short.num_rows >= rows
    return short.slice(0, rows)
