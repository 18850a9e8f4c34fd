"""Casts and defaults of tabular inputs beside plain Python: every numeric type, any values, any nulls.

One table of many rows an example: Spark is asked once for it.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from kvspark.infer.model import Model
from kvspark.spark.scoring.score import score
from tests.spark.echo import echo

pytestmark = pytest.mark.spark

BITS = {"tinyint": 8, "smallint": 16, "int": 32, "bigint": 64}
EDGES = st.sampled_from([0.5, -0.5, 127.5, 2.0**31, 2.0**63, -(2.0**63), 3.5e38, 1e-46, -0.0])


def whole(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def decimals(digits: int, scale: int) -> st.SearchStrategy[Decimal]:
    most = 10**digits - 1
    return st.integers(-most, most).map(lambda n: Decimal(n).scaleb(-scale))


COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    **{name: whole(bits) for name, bits in BITS.items()},
    "float": st.floats(width=32),
    "double": st.floats() | EDGES,
    "decimal(5,2)": decimals(5, 2),
    "decimal(18,0)": decimals(18, 0),
    "decimal(28,10)": decimals(28, 10),
}
CASTS = {**dict.fromkeys(BITS, torch.int64), "float": torch.float32, "double": torch.float64}
ROWS = st.lists(
    st.tuples(*(st.none() | values for values in COLUMNS.values())), min_size=1, max_size=25
)

BEYOND = [
    tuple(value if name in ("float", "double") and name == kind else None for name in COLUMNS)
    for kind in ("float", "double")
    for value in (2.0**63, 2.0**31, -(2.0**63), -(2.0**31), 2.0**62)
]
"""The first numbers above the largest whole ones: Spark itself gives the largest for them."""


@pytest.fixture(scope="module")
def models() -> dict[torch.dtype, Model]:
    return {dtype: echo(dtype, len(COLUMNS)) for dtype in set(CASTS.values())}


def cast_alone(value: Any, cast: str) -> float | int | None:
    """What `value` becomes; None where it has no value of that type."""
    if cast in BITS:
        if isinstance(value, float) and not math.isfinite(value):
            return None
        number = int(value)  # towards zero, as Spark does
        return number if -(2 ** (BITS[cast] - 1)) <= number < 2 ** (BITS[cast] - 1) else None
    with np.errstate(over="ignore"):
        one = float(np.float32(str(value) if isinstance(value, Decimal) else value))
    made = one if cast == "float" else float(value)
    lost = math.isinf(made) and not (isinstance(value, float) and math.isinf(value))
    return None if lost else made


@settings(
    max_examples=6,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking would ask Spark a hundred times
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(rows=ROWS, cast=st.sampled_from(sorted(CASTS)), default=st.sampled_from([None, 3]))
@example(rows=BEYOND, cast="bigint", default=3)
@example(rows=BEYOND, cast="int", default=3)
def test_a_cast_is_that_of_python_whatever_the_column_holds(
    spark: SparkSession,
    models: dict[torch.dtype, Model],
    cast: str,
    default: int | None,
    rows: list[tuple[Any, ...]],
) -> None:
    names = [f"c{place}" for place in range(len(COLUMNS))]
    kinds = ", ".join(f"{name} {kind}" for name, kind in zip(names, COLUMNS, strict=True))
    numbered: list[tuple[Any, ...]] = [(n, *row) for n, row in enumerate(rows)]
    df = spark.createDataFrame(numbered, f"id int, {kinds}").coalesce(1)
    given = {"columns": names, "cast": cast, "default": default}
    made = score(df, models[CASTS[cast]], inputs={"amounts": given}, on_bad_row="null")
    found = {row.id: row.output for row in made.select("id", "output").collect()}
    for number, row in enumerate(rows):
        wanted: list[Any] = [default if each is None else cast_alone(each, cast) for each in row]
        if None in wanted:
            assert found[number] is None
        else:
            assert np.array_equal(found[number], wanted, equal_nan=True), (row, found[number])
