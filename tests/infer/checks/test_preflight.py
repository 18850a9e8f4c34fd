"""The preflight finds stages whose results cannot be re-used, and remembers those that can."""

from __future__ import annotations

from itertools import count

import pyarrow as pa
import pytest
import torch

from kvspark.cache.cache import Cache
from kvspark.errors import NotRepeatableError
from kvspark.infer.checks.preflight import Preflight, preflight
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.spec import MicroBatch
from tests.faults.matrix import covers
from tests.infer.rows.test_bad_rows import pictures, png
from tests.infer.test_exactness import encoder, plain, token_rows, vector_rows
from tests.small_models import Mlp

NAMES = count()
LARGE = 1e9
"""More than any number that is tried when a model is made, but for the greatest of all."""
ROWS = {"x": vector_rows(list(range(20)))}
PICTURES = {"image": pa.array([png(seed) for seed in range(4)], pa.binary())}


class Centred(torch.nn.Module):
    """Mixes rows where one has a large value, which no row shows that is tried when it is made."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        greatest = x.abs().amax()
        is_large = (greatest > LARGE) & (greatest < LARGE**2)
        return torch.where(is_large, x - x.mean(dim=0, keepdim=True), x)


class Ranked(torch.nn.Module):
    """Depends on a row's place in its micro-batch, where the row has a large value."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        is_large = x.abs().amax(dim=1, keepdim=True) > LARGE
        return x + LARGE * torch.arange(x.shape[0]).unsqueeze(1) * is_large


@covers("B21")
@pytest.mark.parametrize("module", [Centred(), Ranked()], ids=["mixes-rows", "counts-rows"])
def test_a_model_that_is_not_row_wise_is_refused(module: torch.nn.Module) -> None:
    model = Model.from_torch(module.eval(), {"x": torch.zeros(3, 8)}, name="mixed")
    with pytest.raises(
        NotRepeatableError, match=r"stage 'output' gave other bits .* nothing was written"
    ):
        preflight(
            compiled_plan(model.bundle),
            {
                "x": pa.array(
                    [[v * LARGE for v in row] for row in ROWS["x"].to_pylist()], ROWS["x"].type
                )
            },
        )


def test_a_row_wise_model_passes() -> None:
    assert preflight(compiled_plan(plain(Mlp, "trunk").bundle), ROWS).checked == ("trunk", "output")
    found = preflight(compiled_plan(encoder(per_token=True).bundle), token_rows(list(range(64))))
    assert found.checked == ("layer", "head")


def test_what_was_checked_is_not_checked_again() -> None:
    cache = Cache.connect(f"memory://preflight-{next(NAMES)}", namespace="tests")
    bundle = plain(Mlp, "trunk").with_micro_batch(MicroBatch(rows=64)).bundle
    assert preflight(compiled_plan(bundle), ROWS, cache=cache).checked == ("trunk", "output")
    assert preflight(compiled_plan(bundle), ROWS, cache=cache).checked == ()
    assert preflight(compiled_plan(bundle), ROWS, cache=cache, threads=2).checked == (
        "trunk",
        "output",
    )


def test_what_a_row_takes_is_told_and_remembered() -> None:
    cache = Cache.connect(f"memory://preflight-{next(NAMES)}", namespace="tests")
    bundle = plain(Mlp, "trunk").bundle
    first = preflight(compiled_plan(bundle), ROWS, cache=cache)
    again = preflight(compiled_plan(bundle), ROWS, cache=cache)
    assert first.compute_s.keys() == {"trunk", "output"}
    assert all(seconds > 0 for seconds in first.compute_s.values())
    assert again == Preflight((), first.compute_s)


def test_what_a_picture_takes_to_decode_is_known_again_where_nothing_is_left_to_check() -> None:
    cache = Cache.connect(f"memory://preflight-{next(NAMES)}", namespace="tests")
    compiled = compiled_plan(pictures().bundle)
    first = preflight(compiled, PICTURES, cache=cache)
    decoded = next(stage.name for stage in compiled.bundle.stages if not stage.is_batched)
    assert first.compute_s[decoded] > 0
    assert preflight(compiled, PICTURES, cache=cache) == Preflight((), first.compute_s)


def test_a_preflight_leaves_no_row_in_the_cache() -> None:
    cache = Cache.connect(f"memory://preflight-{next(NAMES)}", namespace="tests")
    bundle = plain(Mlp, "trunk").bundle
    preflight(compiled_plan(bundle), ROWS, cache=cache)
    predictor = Predictor(compiled_plan(bundle), cache=cache)
    predictor.predict(ROWS)
    assert predictor.drain().stages["output"].hits == 0


def test_no_rows_check_nothing_and_leave_no_mark() -> None:
    cache = Cache.connect(f"memory://preflight-{next(NAMES)}", namespace="tests")
    empty = {"x": pa.array([], pa.list_(pa.float32()))}
    bundle = plain(Mlp, "trunk").bundle
    assert preflight(compiled_plan(bundle), empty, cache=cache).checked == ()
    assert preflight(compiled_plan(bundle), ROWS, cache=cache).checked == ("trunk", "output")
