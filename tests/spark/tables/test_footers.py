"""What footers say of nulls: nothing wrong, and of tensors without any that there are none, so that nobody scans them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from kvspark.spark.tables.footers import read_footers

LISTS = [pa.list_(pa.float32()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2)]
STRUCT = pa.struct([("a", pa.int32()), ("b", pa.list_(pa.int32()))])
TENSORS = pa.list_(pa.list_(pa.float32(), 2), 1)

CASES = [
    *((kind, [[1.0, 2.0], [3.0, 4.0]], 0) for kind in LISTS),
    *((kind, [[1.0, 2.0], None], None) for kind in LISTS),
    *((kind, [[1.0, None], [3.0, 4.0]], None) for kind in LISTS),
    (pa.list_(pa.float32()), [[1.0], []], None),
    (TENSORS, [[[1.0, 2.0]], [[3.0, 4.0]]], 0),
    (TENSORS, [[[1.0, 2.0]], None], None),
    (STRUCT, [{"a": 1, "b": [1]}, {"a": 2, "b": None}], 0),
    (STRUCT, [{"a": 1, "b": [1]}, None], None),
    (pa.string(), ["a", None, None], 2),
    (pa.string(), ["a", ""], 0),
]


@pytest.mark.parametrize(("kind", "values", "nulls"), CASES, ids=str)
def test_nulls_are_told_where_the_footer_tells_them(
    tmp_path: Path, kind: pa.DataType, values: list[Any], nulls: int | None
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": pa.array(values, kind)}), path, row_group_size=1)
    (footer,) = read_footers([path], counted=["x"])
    assert footer.nulls == {"x": nulls}
    pq.write_table(pa.table({"x": pa.array(values, kind)}), path, write_statistics=False)
    (footer,) = read_footers([path], counted=["x"])
    assert footer.nulls == {"x": None}


@pytest.mark.spark
@pytest.mark.parametrize(
    ("rows", "nulls"),
    [("(array(1f, 2f)), (array(3f, 4f))", 0), ("(array(1f, 2f)), (null)", None)],
    ids=["none", "one"],
)
def test_a_list_that_spark_wrote_as_null_is_not_taken_for_none(
    spark: SparkSession, tmp_path: Path, rows: str, nulls: int | None
) -> None:
    spark.sql(f"select * from values {rows} as t(x)").coalesce(1).write.parquet(str(tmp_path / "t"))
    (path,) = (tmp_path / "t").glob("*.parquet")
    (footer,) = read_footers([path], counted=["x"])
    assert footer.nulls == {"x": nulls}
