"""Columns that a table of Delta or Iceberg cannot have are refused before a row is scored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from kvspark.errors import OutputError
from tests.table.publish.merging import publish, publisher_to, table
from tests.table.publish.targets import new_url

ROWS = pa.table({"id": [1], "score": [1.0]})


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
@pytest.mark.parametrize(
    ("columns", "by", "message"),
    [
        ({"id": [1]}, (), "a column 'score' that the run has not"),
        ({"id": [1], "score": ["a"]}, (), "column 'score'.* double.* string"),
        ({"id": [1], "score": [1.0], "day": ["a"]}, ("day",), "partitioned by .* by day"),
    ],
    ids=["gone", "retyped", "partitioned"],
)
def test_columns_that_do_not_fit_are_refused_first(
    kind: str, columns: Mapping[str, Any], by: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    url = new_url(kind, "", tmp_path)
    publish(url, "one", table({1: 1.0}))
    rows = pa.table(columns)
    with pytest.raises(OutputError, match=rf"{message}.*nothing was (written|published)"):
        publisher_to(url).check_columns(rows.schema, by, "two")


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_columns_that_fit_or_are_not_known_yet_are_not(kind: str, tmp_path: Path) -> None:
    url = new_url(kind, "", tmp_path)
    publisher_to(url).check_columns(ROWS.schema, (), "one")
    publish(url, "one", ROWS)
    more = ROWS.append_column("more", pa.array(["a"]))
    unknown = pa.schema([("id", pa.int64()), ("score", pa.null())])
    for schema in (ROWS.schema, more.schema, unknown):
        publisher_to(url).check_columns(schema, (), "two")
    assert publisher_to(url).current() is not None
