"""ONNX files as models: cut at values, the bits of the uncut session, fingerprints, refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import helper, numpy_helper

from kvspark.cache.cache import Cache
from kvspark.errors import CutError, ExportError, NotRepeatableError
from kvspark.infer.checks.preflight import preflight
from kvspark.infer.model import Model
from kvspark.infer.predict.predictor import Predictor
from kvspark.infer.resolve.compiled_plan import compiled_plan
from kvspark.infer.rows.arrow import arrow_type
from kvspark.model.onnx.source import find_onnx_cuts
from kvspark.model.run.onnx_computation import open_session
from kvspark.spec import MicroBatch
from tests.onnx_models import cnn, floats, tokens, towers, weight, write

ROWS = 50


def pictures(rows: int = ROWS, seed: int = 5) -> dict[str, Any]:
    made = np.random.default_rng(seed).standard_normal((rows, 3, 16, 16))
    return {"image": made.astype("float32")}


def pairs(rows: int = ROWS) -> dict[str, Any]:
    generator = np.random.default_rng(5)
    return {
        name: generator.standard_normal((rows, width)).astype("float32")
        for name, width in (("user", 8), ("item", 6))
    }


def texts() -> dict[str, Any]:
    generator = np.random.default_rng(5)
    return {"ids": [generator.integers(0, 50, size=1 + i * 7 % 30) for i in range(ROWS)]}


def bits(made: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [row.tobytes() for row in rows] if isinstance(rows, list) else rows.tobytes()
        for name, rows in made.items()
    }


def test_an_uncut_file_gives_the_bits_of_its_session_in_micro_batches(tmp_path: Path) -> None:
    path = cnn(tmp_path / "m.onnx")
    rows = pictures(64)
    made = Model.from_onnx(path, micro_batch=MicroBatch(rows=32)).predict(rows, threads=1)
    session = open_session(path, threads=1)
    parts = [session.run(None, {"image": half}) for half in np.split(rows["image"], 2)]
    for place, name in enumerate(["scores", "label"]):
        assert made[name].tobytes() == np.concatenate([part[place] for part in parts]).tobytes()


@pytest.mark.parametrize(
    ("make", "rows", "variable"),
    [(cnn, pictures, []), (towers, pairs, [])],
    ids=["cnn", "towers"],
)
def test_every_offered_cut_gives_the_bits_of_the_whole(
    tmp_path: Path,
    make: Callable[[Path], Path],
    rows: Callable[[], dict[str, Any]],
    variable: list[str],
) -> None:
    path = make(tmp_path / "m.onnx")
    whole = bits(Model.from_onnx(path, variable_length=variable).predict(rows()))
    offered = find_onnx_cuts(path, variable_length=variable)
    assert len(offered) >= 2
    for cut in offered:
        model = Model.from_onnx(path, cuts=[cut], variable_length=variable)
        assert len(model.stages) == 2
        assert bits(model.predict(rows())) == whole, cut


def test_rows_of_varying_length_are_grouped_and_trimmed(tmp_path: Path) -> None:
    path = tokens(tmp_path / "m.onnx")
    whole = Model.from_onnx(path, variable_length=["ids"])
    parts = Model.from_onnx(path, variable_length=["ids"], cuts=["active"])
    assert whole.outputs[0].shape == (None, 4)
    assert parts.stages[0].bytes_per_row is None
    made = whole.predict(texts())
    assert [len(row) for row in made["scores"]] == [len(row) for row in texts()["ids"]]
    assert bits(parts.predict(texts())) == bits(made)


def test_each_tower_is_reached_by_its_own_input_only(tmp_path: Path) -> None:
    model = Model.from_onnx(towers(tmp_path / "m.onnx"), cuts=["/item/relu", "/user/relu"])
    inputs = {stage.name: stage.inputs for stage in model.stages}
    assert inputs == {
        "user_relu": ("user",),
        "item_relu": ("item",),
        "output": ("user", "item"),
    }
    assert all(stage.is_batched for stage in model.stages)


def test_a_skip_connection_crosses_the_cut_with_its_tensor(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["first"]),
        helper.make_node("MatMul", ["first", "w2"], ["middle"]),
        helper.make_node("Tanh", ["middle"], ["active"]),
        helper.make_node("Add", ["active", "first"], ["sum"]),
        helper.make_node("MatMul", ["sum", "w3"], ["y"]),
    ]
    weights = [weight("w1", 8, 8), weight("w2", 8, 8), weight("w3", 8, 2)]
    path = write(tmp_path / "m.onnx", nodes, [floats("x", "n", 8)], [floats("y", "n", 2)], weights)
    x = np.random.default_rng(1).standard_normal((40, 8)).astype("float32")
    model = Model.from_onnx(path, cuts=["active"])
    assert [spec.shape for spec in model.stages[0].outputs] == [(8,), (8,)]
    assert [source.stage for source in model.stages[1].sources] == ["active", "active"]
    assert bits(model.predict({"x": x})) == bits(Model.from_onnx(path).predict({"x": x}))


def test_a_cut_may_be_an_output_of_the_model(tmp_path: Path) -> None:
    path = cnn(tmp_path / "m.onnx")
    parts, whole = Model.from_onnx(path, cuts=["scores"]), Model.from_onnx(path)
    assert [spec.name for spec in parts.outputs] == ["scores", "label"]
    assert bits(parts.predict(pictures())) == bits(whole.predict(pictures()))


def test_a_size_is_not_carried_across_the_cut(tmp_path: Path) -> None:
    """The Shape of an activation before the cut is made from the row count."""
    model = Model.from_onnx(cnn(tmp_path / "m.onnx"), cuts=["pool"])
    assert [spec.shape for spec in model.stages[0].outputs] == [(8, 1, 1)]
    assert [source.stage for source in model.stages[-1].sources] == ["pool"]


def test_a_cut_that_changes_bits_is_refused_and_not_offered(tmp_path: Path) -> None:
    """onnxruntime fuses a convolution with the activation behind it."""
    path = cnn(tmp_path / "m.onnx")
    inside = "conv1"
    assert inside not in find_onnx_cuts(path)
    with pytest.raises(CutError, match="do not give the bits of the uncut session"):
        Model.from_onnx(path, cuts=[inside])


def test_a_stage_holds_only_the_weights_that_it_needs(tmp_path: Path) -> None:
    model = Model.from_onnx(cnn(tmp_path / "m.onnx"), cuts=["relu2"])
    shapes = []
    for stage in model.stages:
        proto = onnx.load(str(model.bundle.path(f"stages/{stage.name}/model.onnx")))
        shapes.append({tuple(tensor.dims) for tensor in proto.graph.initializer})
    assert (8, 3, 3, 3) in shapes[0]
    assert (8, 3, 3, 3) not in shapes[1]
    assert (5, 8) in shapes[1]
    assert (5, 8) not in shapes[0]


def test_a_new_head_uses_the_old_trunk(tmp_path: Path) -> None:
    old = Model.from_onnx(cnn(tmp_path / "a.onnx"), cuts=["relu2"])
    new = Model.from_onnx(cnn(tmp_path / "b.onnx", head_seed=8), cuts=["relu2"])
    assert old.stages[0].fingerprint == new.stages[0].fingerprint
    assert old.fingerprint != new.fingerprint
    cache = Cache.connect("memory://onnx-head", namespace="tests")
    arrays = {"image": pa.array(pictures()["image"].tolist(), arrow_type(old.inputs[0]))}
    Predictor(compiled_plan(old.bundle), cache=cache).predict(arrays)
    predictor = Predictor(compiled_plan(new.bundle), cache=cache)
    made = predictor.predict(arrays)
    stats = predictor.drain().stages
    assert (stats["relu2"].computed, stats["relu2"].weights_loaded) == (0, 0)
    assert (stats["relu2"].hits, stats["output"].computed) == (ROWS, ROWS)
    assert made["scores"].equals(Predictor(compiled_plan(new.bundle)).predict(arrays)["scores"])


def test_names_of_values_and_nodes_do_not_count(tmp_path: Path) -> None:
    one = Model.from_onnx(cnn(tmp_path / "a.onnx"), cuts=["relu2"])
    two = Model.from_onnx(cnn(tmp_path / "b.onnx", prefix="/body/"), cuts=["/body/relu2"])
    assert [s.fingerprint for s in one.stages] == [s.fingerprint for s in two.stages]


def test_one_weight_by_one_ulp_is_another_fingerprint(tmp_path: Path) -> None:
    path = cnn(tmp_path / "a.onnx")
    proto = onnx.load(str(path))
    tensor = next(t for t in proto.graph.initializer if t.name == "c1")
    array = np.frombuffer(tensor.raw_data, "<f4").copy()
    array[3] = np.nextafter(array[3], np.float32(9))
    tensor.raw_data = array.tobytes()
    onnx.save(proto, str(tmp_path / "b.onnx"))
    one, two = (Model.from_onnx(tmp_path / f"{name}.onnx", cuts=["relu2"]) for name in "ab")
    assert one.stages[0].fingerprint != two.stages[0].fingerprint


def test_a_saved_model_has_the_same_fingerprint_and_bits(tmp_path: Path) -> None:
    model = Model.from_onnx(towers(tmp_path / "m.onnx"), cuts=["/user/relu"])
    model.save(tmp_path / "saved")
    loaded = Model.load(tmp_path / "saved")
    assert loaded.fingerprint == model.fingerprint
    assert bits(loaded.predict(pairs())) == bits(model.predict(pairs()))


def test_the_micro_batch_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    model = Model.from_onnx(cnn(tmp_path / "m.onnx"))
    assert model.with_micro_batch(MicroBatch(rows=64)).fingerprint != model.fingerprint


def test_a_stage_that_mixes_only_these_rows_fails_the_preflight(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Abs", ["x"], ["size"]),
        helper.make_node("ReduceMax", ["size"], ["most"], keepdims=0, noop_with_empty_axes=0),
        helper.make_node("Less", ["most", "small"], ["are_small"]),
        helper.make_node("ReduceMean", ["x"], ["mean"], keepdims=1, noop_with_empty_axes=0),
        helper.make_node("Where", ["are_small", "mean", "zero"], ["off"]),
        helper.make_node("Sub", ["x", "off"], ["y"]),
    ]
    weights = [
        numpy_helper.from_array(np.float32(1e-6), "small"),
        numpy_helper.from_array(np.float32(0), "zero"),
    ]
    path = write(tmp_path / "m.onnx", nodes, [floats("x", "n", 4)], [floats("y", "n", 4)], weights)
    rows = np.random.default_rng(1).standard_normal((20, 4)).astype("float32") * 1e-9
    with pytest.raises(NotRepeatableError, match="stage 'output' gave other bits"):
        preflight(
            compiled_plan(Model.from_onnx(path).bundle),
            {"x": pa.array(rows.tolist(), pa.list_(pa.float32()))},
        )


def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path = write(tmp_path / "m.onnx", nodes, [floats("x", 1, 4)], [floats("y", 1, 4)], [])
    with pytest.raises(
        ExportError, match="not a free batch; export the model with a dynamic batch"
    ):
        Model.from_onnx(path)


def test_a_random_operator_is_refused_by_name(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["noise"], name="drop"),
        helper.make_node("Add", ["x", "noise"], ["y"]),
    ]
    path = write(tmp_path / "m.onnx", nodes, [floats("x", "n", 4)], [floats("y", "n", 4)], [])
    with pytest.raises(ExportError, match=r"'drop' \(RandomNormalLike\) draws random numbers"):
        Model.from_onnx(path)


def test_a_free_length_varies_from_row_to_row(tmp_path: Path) -> None:
    path = tokens(tmp_path / "m.onnx")
    named = Model.from_onnx(path, variable_length=["ids"])
    assert Model.from_onnx(path).fingerprint == named.fingerprint
    with pytest.raises(ExportError, match="free dimension behind the batch"):
        Model.from_onnx(path, variable_length=[])


def test_an_unknown_cut_names_the_nearest_value(tmp_path: Path) -> None:
    with pytest.raises(CutError, match=r"'relu_2' is no value .* did you mean 'relu2'"):
        Model.from_onnx(cnn(tmp_path / "m.onnx"), cuts=["relu_2"])


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xff\xffnothing")
    with pytest.raises(ExportError, match="holds no ONNX model"):
        Model.from_onnx(tmp_path / "m.onnx")


def test_a_branch_takes_its_values_from_outside(tmp_path: Path) -> None:
    def branch(op: str) -> onnx.GraphProto:
        node = helper.make_node(op, ["hidden", "w2"], [f"{op}_made"])
        return helper.make_graph([node], op, [], [floats(f"{op}_made", "n", 4)])

    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["hidden"]),
        helper.make_node(
            "If", ["flag"], ["y"], then_branch=branch("Add"), else_branch=branch("Sub")
        ),
    ]
    flag = onnx.numpy_helper.from_array(np.array(True), "flag")
    weights = [weight("w1", 4, 4), weight("w2", 4), flag]
    path = write(tmp_path / "m.onnx", nodes, [floats("x", "n", 4)], [floats("y", "n", 4)], weights)
    x = np.random.default_rng(1).standard_normal((9, 4)).astype("float32")
    whole, parts = (
        Model.from_onnx(path, cuts=cuts).predict({"x": x}) for cuts in (None, ["hidden"])
    )
    assert bits(whole) == bits(parts)
