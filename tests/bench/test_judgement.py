from __future__ import annotations

from typing import Any

import pytest

from tests.bench.texts import judged, shown


def measured(
    *, udf_s: float = 100.0, sentence_s: float = 50.0, apart: float = 2e-7
) -> dict[str, Any]:
    return {
        "rows": 1000,
        "seconds": {
            "sentence_transformers": {"cold": [sentence_s, sentence_s + 1]},
            "predict_batch_udf": {"cold": [udf_s + 1, udf_s]},
            "kvspark_without_cache": {"cold": [50.0, 51.0]},
            "kvspark_with_redis": {"cold": [52.0, 53.0], "warm": [2.0, 1.0]},
        },
        "largest_difference": {"sentence_transformers": apart, "kvspark_without_cache": 0.0},
    }


def test_the_best_of_each_contestant_counts():
    result = judged(measured(), load=0.1)
    assert result["rows_per_s"]["predict_batch_udf_cold"] == 10.0
    assert result["rows_per_s"]["kvspark_with_redis_warm"] == 1000.0
    assert result["ours_is_x_as_fast_as"]["predict_batch_udf"] == 2.0
    assert result["warm_x_cold"] == 52.0
    assert result["targets_met"] is True


@pytest.mark.parametrize(
    "worse",
    [{"udf_s": 89.0}, {"sentence_s": 47.0}, {"apart": 1e-4}],
    ids=["slower than promised beside the UDF", "beside sentence-transformers", "other vectors"],
)
def test_a_missed_target_is_told(worse: dict[str, float]):
    assert judged(measured(**worse), load=0.1)["targets_met"] is False


def test_every_contestant_is_in_the_table():
    assert shown(judged(measured(), load=0.1)).row_count == 5
