"""Typical mistakes and the one line that each of them is answered with: true, short, and with what to do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kvspark import Cache, Model
from kvspark.config.reading.arguments import as_arguments
from kvspark.config.sealing import KEY_ENV
from kvspark.errors import KvsparkError
from kvspark.infer.compute.bad_row_reason import said_of
from kvspark.infer.open_model import open_model
from kvspark.spark.session.java import check_java
from tests.small_models import seeded

LONGEST = 400


def line_of(act: Callable[[], object]) -> str:
    with pytest.raises(KvsparkError) as caught:
        act()
    line = caught.value.line()
    assert len(line) <= LONGEST
    assert "\n" not in line
    assert "Traceback" not in line
    return line


def from_torch(**given: Any) -> Callable[[], object]:
    module = given.pop("module", seeded(torch.nn.Linear(4, 2)))
    examples = given.pop("examples", {"input": torch.zeros(1, 4)})
    return lambda: Model.from_torch(module, examples, **given)


MODULES: dict[str, tuple[Callable[[], object], str]] = {
    "examples-in-a-list": (from_torch(examples=[torch.zeros(1, 4)]), "a list; pass a dict"),
    "one-tensor": (from_torch(examples=torch.zeros(1, 4)), "is a Tensor; pass a dict of tensors"),
    "an-array": (from_torch(examples={"input": np.zeros((1, 4))}), "got ndarray; torch.as_tensor"),
    "no-rows": (from_torch(examples={"input": torch.zeros(0, 4)}), "has no rows; give it one"),
    "float64": (
        from_torch(examples={"input": torch.zeros(1, 4).double()}),
        "must have the same dtype, but got Double and Float; pass examples that it takes",
    ),
    "width": (from_torch(examples={"input": torch.zeros(1, 5)}), "(2x5 and 4x2); pass examples"),
    "wrong-name": (from_torch(examples={"x": torch.zeros(1, 4)}), "name the inputs as forward does"),
    "a-function": (from_torch(module=len), "pass the torch.nn.Module that it was made of"),
    "a-state-dict": (from_torch(module=torch.nn.Linear(4, 2).state_dict()), "pass the torch.nn.M"),
    "cuts-in-a-text": (from_torch(cuts="head"), "cuts is a list of names, got the text 'head'"),
    "length-in-a-text": (from_torch(variable_length="input"), "write ['input']"),
    "rows-as-a-number": (from_torch(micro_batch=32), "MicroBatch(rows=32), got int"),
    "int8": (from_torch(dtype="int8"), "use one of float32, bfloat16, float16"),
}  # fmt: skip


@pytest.mark.parametrize("case", MODULES)
def test_what_from_torch_is_given_wrongly(case: str) -> None:
    act, said = MODULES[case]
    assert said in line_of(act)


def test_one_row_of_one_token_is_example_enough() -> None:
    class Pooled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = torch.nn.Embedding(9, 4)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.table(ids).sum(1)

    example = {"ids": torch.zeros(1, 1, dtype=torch.int64)}
    model = Model.from_torch(seeded(Pooled()), example, variable_length=["ids"])
    assert model.predict({"ids": [[1], [1, 2, 3]]})["output"].shape == (2, 4)


def test_a_module_that_counts_its_calls_is_not_called_on_behalf_of_its_owner() -> None:
    class Counting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = torch.nn.Buffer(torch.zeros((), dtype=torch.int64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls.add_(1)
            return x * 2

    module = Counting().eval()
    Model.from_torch(module, {"x": torch.zeros(1, 4)})
    assert int(module.calls) == 0


# ---------------------------------------------------------------- files that are no models


def _folder(*names: str) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        for name in names:
            (root / "m" / name).parent.mkdir(parents=True, exist_ok=True)
            (root / "m" / name).write_text("{}")
        return root / "m"

    return make


def _file(name: str, content: bytes = b"x") -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        (root / name).write_bytes(content)
        return root / name

    return make


FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (lambda root: root / "gone", "does not exist; expected the folder of a model"),
    "pickle": (_file("m.pkl"), "may be a pickle, which runs code"),
    "pth": (_file("m.pth"), "may be a pickle, which runs code"),
    "gguf": (_file("m.gguf"), "is of llama.cpp"),
    "safetensors": (_file("model.safetensors"), "holds weights and no model; name the folder"),
    "h5": (_file("m.h5"), "is of the old Keras"),
    "torchscript": (_file("m.pt"), "Model.from_torchscript"),
    "pb": (_file("saved_model.pb"), "is of TensorFlow"),
    "text": (_file("m.txt"), "expected .onnx or .keras, or the folder of a model"),
    "broken-onnx": (_file("m.onnx", b"no model"), "holds no ONNX model"),
    "broken-keras": (_file("m.keras"), "is no model of Keras 3"),
    "saved-model": (_folder("saved_model.pb", "variables/x"), "is a SavedModel of TensorFlow"),
    "adapter": (_folder("adapter_config.json"), "is an adapter without the model"),
    "empty-folder": (
        _folder("readme.txt"),
        "(it holds readme.txt); name the folder that save_pretrained",
    ),
    "checkpoint": (_folder("pytorch_model.bin"), "(it holds pytorch_model.bin)"),
    "only-weights": (_folder("model.safetensors"), "(it holds model.safetensors)"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_path_that_is_no_model_says_what_it_is(case: str, tmp_path: Path) -> None:
    make, said = FILES[case]
    path = make(tmp_path)
    assert said in line_of(lambda: open_model(path))


# ---------------------------------------------------------------- caches


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:6379", "write redis://localhost:6379"),
        ("redis://u:hunter2@localhost:6379", "password_env or password_file"),
        ("http://localhost", "write redis://HOST:PORT"),
        ("redis://localhost:99999", "this is not a URL"),
        ("redis://localhost/abc", "write a whole number"),
        ("redis+sentinel://h:1", "names no service"),
        ("embedded:", "write for example embedded:cache"),
        ("", "expected something that is not empty"),
    ],
)  # fmt: skip
def test_a_wrong_url_says_the_right_one(url: str, said: str) -> None:
    line = line_of(lambda: Cache.connect(url, namespace="n", sealed=False))
    assert said in line
    assert "hunter2" not in line


def test_python_is_told_of_arguments_and_not_of_keys_of_a_conf(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(KEY_ENV)
    line = line_of(lambda: Cache.connect("redis://localhost:6379", namespace="n"))
    assert "set key_file=FILE on driver and executors, or set sealed=False" in line
    assert "cache." not in line


def test_keys_of_a_conf_become_arguments_and_files_do_not() -> None:
    assert as_arguments("set cache.sealing.key_file=F or cache.sealed=false; kvspark.cache") == (
        "set key_file=F or sealed=False; kvspark.cache"
    )


# ---------------------------------------------------------------- Java


def _java(home: Path, version: str | None) -> Path:
    (home / "bin").mkdir(parents=True)
    (home / "bin/java").write_text("#!/bin/sh\n")
    (home / "bin/java").chmod(0o755)
    if version is not None:
        (home / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    return home


@pytest.fixture
def no_gateway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)


@pytest.mark.usefixtures("no_gateway")
@pytest.mark.parametrize(("version", "number"), [("1.8.0_412", 8), ("11.0.22", 11)])
def test_an_old_java_is_named(
    version: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(_java(tmp_path / "jdk", version)))
    assert f"JAVA_HOME is Java {number} (" in line_of(lambda: check_java("local[2]"))


@pytest.mark.usefixtures("no_gateway")
def test_a_java_home_without_java_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    line = line_of(lambda: check_java(None))
    assert f"JAVA_HOME is {tmp_path}, where there is no bin/java; set it to" in line
    check_java("sc://somewhere")
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    check_java(None)


@pytest.mark.usefixtures("no_gateway")
@pytest.mark.parametrize("version", ["17.0.15", "21", None])
def test_a_java_that_is_new_enough_or_does_not_say_is_taken(
    version: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(_java(tmp_path / "jdk", version)))
    check_java("local[2]")


# ---------------------------------------------------------------- what torch says of a row


def raised(act: Callable[[], object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever torch raises
        act()
    return caught.value


SAID: dict[str, tuple[Callable[[], object], str]] = {
    "product": (lambda: torch.zeros(2, 5) @ torch.zeros(4, 2), "(2x5 and 4x2)"),
    "sizes": (lambda: torch.zeros(3) + torch.zeros(4), "tensor a (3) must match"),
    "view": (lambda: torch.zeros(6).view(4), "shape '[4]' is invalid for input of size 6"),
    "cat": (lambda: torch.cat([torch.zeros(1, 2), torch.zeros(1, 3)]), "Sizes of tensors must"),
    "channels": (lambda: torch.nn.Conv1d(2, 2, 1)(torch.zeros(1, 3, 5)), "to have 2 channels"),
    "kernel": (lambda: torch.nn.Conv1d(2, 2, 9)(torch.zeros(1, 2, 5)), "Kernel size"),
    "narrow": (lambda: torch.zeros(3).narrow(0, 2, 5), "exceeds dimension size (3)"),
    "topk": (lambda: torch.zeros(3).topk(5), "selected index k out of range"),
    "index": (lambda: torch.zeros(5)[torch.tensor([7])], "id 7 outside -5..4"),
    "numpy": (lambda: np.zeros(5)[9], "id 9 outside -5..4"),
    "broadcast": (lambda: np.zeros(5) + np.zeros(4), "with shapes (5,) (4,)"),
    "lookup": (lambda: torch.nn.Embedding(5, 2)(torch.tensor([7])), "an id outside the table"),
}


@pytest.mark.parametrize("case", SAID)
def test_what_holds_nothing_of_a_row_is_shown(case: str) -> None:
    act, said = SAID[case]
    assert said in str(said_of(raised(act)))


WITHHELD: Sequence[Callable[[], object]] = (
    lambda: int("4111 1111 1111 1111"),
    lambda: {"a": 1}["Marie Curie"],
    lambda: (_ for _ in ()).throw(ValueError("bad name Marie Curie")),
    lambda: (_ for _ in ()).throw(RuntimeError("shape '[Marie]' is invalid for input of size 3")),
    lambda: np.zeros(5)[987_654_321],
    lambda: (_ for _ in ()).throw(RuntimeError("")),
)


@pytest.mark.parametrize("place", range(len(WITHHELD)))
def test_what_may_quote_a_row_is_withheld(place: int) -> None:
    said = said_of(raised(WITHHELD[place])) or ""
    assert said in ("", "an id far above -5..4")
