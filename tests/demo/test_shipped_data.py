from __future__ import annotations

import pyarrow.parquet as pq
import pytest

from kvspark.demo.nights.make_nights import LABELS, SCHEMA, counts
from kvspark.demo.nights.night import SHIPPED, shipped_nights


def test_the_readme_counts_what_is_in_the_files():
    before, after = (night.read() for night in shipped_nights())
    assert "\n".join(counts(before, after)) in (SHIPPED / "README.md").read_text()


@pytest.mark.parametrize("version", ["3.0", "3.1"])
def test_a_night_has_ten_thousand_rows_in_the_order_of_unique_ids(version: str):
    table = pq.read_table(SHIPPED / f"wordnet-{version}.parquet")
    ids = table["id"].to_pylist()
    assert table.schema.equals(SCHEMA)
    assert 9_800 < len(ids) < 10_200
    assert ids == sorted(set(ids))
    assert set(table["label"].to_pylist()) == set(LABELS)


def test_the_notice_of_each_version_is_shipped():
    text = (SHIPPED / "WORDNET-LICENSE.txt").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University.  All rights reserved." in text
    assert "WordNet 3.1 Copyright 2011 by Princeton University.  All rights reserved." in text


def test_the_folder_is_smaller_than_a_megabyte_and_a_half():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 1_500_000
