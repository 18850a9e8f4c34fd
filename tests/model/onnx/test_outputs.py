"""Which values of an ONNX file become outputs, and what is said of those that cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from kvspark.errors import ExportError
from kvspark.infer.model import Model
from kvspark.model.run.onnx_computation import open_session
from tests.onnx_models import cnn, floats, weight

ML = helper.make_opsetid("ai.onnx.ml", 1)


def classifier(path: Path, *, texts: bool = False, zipped: bool = False) -> Path:
    """What skl2onnx writes of a classifier of four numbers."""
    labels = {"classlabels_strings": ["a", "b", "c"]} if texts else {"classlabels_ints": [0, 1, 2]}
    weights = np.random.default_rng(1).standard_normal(12).tolist()
    nodes = [
        helper.make_node(
            "LinearClassifier", ["x"], ["label", "prob"], domain="ai.onnx.ml", coefficients=weights,
            intercepts=[0.0] * 3, multi_class=1, **labels,
        )
    ]  # fmt: skip
    kind = TensorProto.STRING if texts else TensorProto.INT64
    outputs = [helper.make_tensor_value_info("label", kind, ["N"]), floats("prob", "N", 3)]
    if zipped:
        nodes.append(
            helper.make_node("ZipMap", ["prob"], ["map"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2])
        )  # fmt: skip
        number = helper.make_tensor_type_proto(TensorProto.FLOAT, [])
        maps = helper.make_sequence_type_proto(
            helper.make_map_type_proto(TensorProto.INT64, number)
        )
        outputs[1] = helper.make_value_info("map", maps)
    graph = helper.make_graph(nodes, "g", [floats("x", "N", 4)], outputs)
    opsets = [helper.make_opsetid("", 15), ML]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(path))
    return path


def rows() -> dict[str, Any]:
    return {"x": np.random.default_rng(2).standard_normal((40, 4)).astype("float32")}


def test_a_text_label_is_refused_by_name_and_can_be_left_out(tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", texts=True)
    with pytest.raises(
        ExportError, match=r"'label' is text.*integer labels.*from_onnx\(path, outputs=\['prob'\]\)"
    ):
        Model.from_onnx(path)
    model = Model.from_onnx(path, outputs=["prob"])
    (asked,) = open_session(path, threads=1).run(["prob"], rows())
    assert model.predict(rows())["prob"].tobytes() == asked.tobytes()


def test_a_zip_map_is_refused_by_name_and_its_tensor_can_be_taken(tmp_path: Path) -> None:
    path = classifier(tmp_path / "m.onnx", zipped=True)
    with pytest.raises(ExportError, match=r"ZipMap.*zipmap=False.*outputs=\['label', 'prob'\]"):
        Model.from_onnx(path)
    model = Model.from_onnx(path, outputs=["prob", "label"])
    made = model.predict(rows())
    label, maps = open_session(path, threads=1).run(["label", "map"], rows())
    assert list(made) == ["prob", "label"]
    assert made["label"].tolist() == label.tolist()
    assert made["prob"].tolist() == [[float(one[key]) for key in range(3)] for one in maps]


def test_a_chosen_output_of_all_has_the_bits_of_the_file(tmp_path: Path) -> None:
    path = cnn(tmp_path / "m.onnx")
    pictures = np.random.default_rng(5).standard_normal((9, 3, 16, 16)).astype("float32")
    whole = Model.from_onnx(path).predict({"image": pictures})
    model = Model.from_onnx(path, outputs=["label"])
    assert [spec.name for spec in model.outputs] == ["label"]
    assert model.predict({"image": pictures})["label"].tobytes() == whole["label"].tobytes()
    model.save(tmp_path / "saved")
    assert Model.load(tmp_path / "saved").fingerprint == model.fingerprint


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        (["labl"], "outputs names 'labl', which is no value of the graph .* did you mean 'label'"),
        ([], "outputs is empty; keep one of"),
    ],
)
def test_outputs_that_are_not_there_are_refused(
    outputs: list[str], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=said):
        Model.from_onnx(cnn(tmp_path / "m.onnx"), outputs=outputs)


def test_an_output_that_stands_twice_is_refused_when_the_model_is_made(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Relu", ["y"], ["z"])],
        "g",
        [floats("x", "N", 4)],
        [floats("y", "N", 3), floats("z", "N", 3), floats("y", "N", 3)],
        [weight("w", 4, 3)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    onnx.save_model(model, str(tmp_path / "m.onnx"))
    said = r"output 'y' stands 2 times .*from_onnx\(path, outputs=\['y', 'z'\]\)"
    with pytest.raises(ExportError, match=said):
        Model.from_onnx(tmp_path / "m.onnx")
    once = Model.from_onnx(tmp_path / "m.onnx", outputs=["y", "z"])
    made = once.predict({"x": np.ones((2, 4), "float32")})
    assert made["z"].tolist() == np.maximum(made["y"], 0).tolist()


def test_weights_that_were_left_behind_are_named(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(
        nodes, "g", [floats("x", "N", 4)], [floats("y", "N", 3)], [weight("w", 4, 3)]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    path = tmp_path / "m.onnx"
    onnx.save_model(
        model, str(path), save_as_external_data=True, location="m.data", size_threshold=0
    )
    before = Model.from_onnx(path).fingerprint
    (tmp_path / "m.data").rename(tmp_path / "other.data")
    with pytest.raises(ExportError, match=r"keeps its weights in the file 'm\.data'.*copy that"):
        Model.from_onnx(path)
    (tmp_path / "other.data").rename(tmp_path / "m.data")
    assert Model.from_onnx(path).fingerprint == before


def test_a_file_that_is_not_there_is_no_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"none\.onnx does not exist"):
        Model.from_onnx(tmp_path / "none.onnx")
