"""Makes the folders of the workloads: tables of seeded numbers, real texts and pieces of real photographs."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save_file

from kvspark.demo.nights.night import shipped_nights
from tests.bench.beside.nets import CLASSES, FEATURES, HEADS, SIDE, Pairs, Tabular, TextHead
from tests.bench.beside.plain import PICTURES_A_CALL
from tests.bench.beside.workload import (
    OTHERS,
    Night,
    Workload,
    outputs_array,
    table_path,
    write_table,
)

USERS, ITEMS = 10_000, 1_000
DISTINCT = 0.58
"""The part of the rows of the last night of texts that no other row repeats: 42 % are duplicates."""
OTHER_ROWS = 4_096
TREES = 100

COLD, SAME, FEW, MANY = "cold", "same night", "1 % changed", "20 % changed"
NEW_HEAD, DUPLICATES = "new head", "42 % duplicates"

DEFAULT_ROWS = {
    "texts": 1_500,
    **{f"pairs-{head}": 300_000 for head in HEADS},
    "tabular": 500_000,
    "trees": 100_000,
    "pictures": 128,
}
"""Such that all workloads and all contestants together take about an hour on two cores."""


def prepared(name: str, rows: int | None, folder: Path) -> Workload:
    """The workload `name` with so many rows in each table, in `folder`."""
    made = MAKERS[name.partition("-")[0]](name, rows or DEFAULT_ROWS[name], folder)
    made.write(folder)
    return made


def _texts(name: str, rows: int, folder: Path) -> Workload:
    every = shipped_nights()[0].read()["text"].to_pylist()
    # Evenly from all of them: neighbours are of one kind and length.
    step = len(every) / (2.2 * rows + 256)
    if step < 1:
        raise SystemExit(f"there are {len(every):,} texts, enough for {len(every) // 3:,} rows")
    chosen = [every[int(step * place)] for place in range(int(2.2 * rows) + 256)]
    first, spare = chosen[:rows], chosen[rows : rows + rows // 5]
    rest = chosen[rows + rows // 5 :]
    chance = np.random.default_rng(21)
    distinct = rest[: int(DISTINCT * rows)]
    again = chance.integers(0, len(distinct), rows - len(distinct))
    tables = {
        "first": first,
        "few": _replaced(first, spare[: max(rows // 100, 1)]),
        "many": _replaced(first, spare),
        "duplicates": [
            (distinct + [distinct[n] for n in again])[n] for n in chance.permutation(rows)
        ],
        OTHERS: rest[-128:],
    }
    for table, texts in tables.items():
        _write(folder, table, {"text": pa.array(texts)})
    torch.manual_seed(22)
    for head in range(2):
        save_file(TextHead().state_dict(), folder / f"head-{head}.safetensors")
    nights = (
        Night(COLD, "first", is_new=True),
        Night(SAME, "first"),
        Night(FEW, "few"),
        Night(MANY, "many"),
        Night(NEW_HEAD, "many", head=1),
        Night(DUPLICATES, "duplicates", is_new=True),
    )
    title = f"{rows:,} texts, MiniLM (22.7 M parameters) and a classifier"
    return Workload(name, title, "texts", ("text",), (0,), CLASSES, rows, 256, 1e-4, nights)


def _replaced(texts: list[str], by: list[str]) -> list[str]:
    """`texts` with others at evenly spread places."""
    made = list(texts)
    for number, text in enumerate(by):
        made[number * len(texts) // len(by)] = text
    return made


def _pairs(name: str, rows: int, folder: Path) -> Workload:
    torch.manual_seed(23)
    head = name.partition("-")[2]
    save_file(Pairs(head).state_dict(), folder / "model.safetensors")
    chance = np.random.default_rng(24)
    for table, count in (("first", rows), (OTHERS, min(rows, OTHER_ROWS))):
        users, items = _normal(chance, USERS, SIDE), _normal(chance, ITEMS, SIDE)
        user, item = (chance.integers(0, len(known), count) for known in (users, items))
        columns = {"user": outputs_array(users[user]), "item": outputs_array(items[item])}
        _write(folder, table, columns)
    title = f"{rows:,} pairs of {USERS:,} users and {ITEMS:,} items, two towers, head `{head}`"
    columns_of, widths = ("user", "item"), (SIDE, SIDE)
    return Workload(name, title, "pairs", columns_of, widths, 1, rows, 1_024, 1e-4, _twice())


def _tabular(name: str, rows: int, folder: Path) -> Workload:
    torch.manual_seed(25)
    save_file(Tabular().state_dict(), folder / "model.safetensors")
    _numbers(folder, rows)
    title = f"{rows:,} rows of 16 numbers, MLP 16-64-64-2"
    return Workload(name, title, "tabular", ("x",), (FEATURES,), 2, rows, 1_024, 1e-4, _twice())


def _trees(name: str, rows: int, folder: Path) -> Workload:
    import onnx
    from onnx import helper
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier

    chance = np.random.default_rng(26)
    x = _normal(chance, 4_000, FEATURES)
    y = (x[:, 0] * x[:, 1] + x[:, 2] + 0.3 * chance.standard_normal(len(x)) > 0).astype(int)
    boosted = GradientBoostingClassifier(n_estimators=TREES, max_depth=5, random_state=0).fit(x, y)
    model = to_onnx(boosted, x[:1], options={"zipmap": False}, target_opset=18)
    # The probabilities alone: a label is where they are largest.
    graph = model.graph
    graph.input[0].name, given = "x", graph.input[0].name
    for node in graph.node:
        node.input[:] = ["x" if each == given else each for each in node.input]
    graph.node.append(helper.make_node("Identity", ["probabilities"], ["output"]))
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info("output", 1, [None, 2]))
    onnx.save(model, str(folder / "model.onnx"))
    _numbers(folder, rows)
    title = f"{rows:,} rows of 16 numbers, {TREES} boosted trees of depth 5, ONNX"
    return Workload(name, title, "trees", ("x",), (FEATURES,), 2, rows, 1_024, 1e-4, _twice())


def _pictures(name: str, rows: int, folder: Path) -> Workload:
    from PIL import Image

    from tests.real_models import photographs

    chance = np.random.default_rng(27)
    photos = [Image.open(BytesIO(file)).convert("RGB") for file in photographs().values()]

    def piece(number: int) -> bytes:
        photo = photos[number % len(photos)]
        left, top = (int(chance.integers(0, edge - 320)) for edge in photo.size)
        file = BytesIO()
        photo.crop((left, top, left + 320, top + 320)).save(file, "JPEG", quality=90)
        return file.getvalue()

    for table, count in (("first", rows), (OTHERS, 32)):
        _write(folder, table, {"image": pa.array([piece(n) for n in range(count)], pa.binary())})
    title = f"{rows:,} JPEG files of 320 x 320 pixels, EfficientNet-Lite0"
    calls = PICTURES_A_CALL
    return Workload(name, title, "pictures", ("image",), (0,), 1_000, rows, calls, 1e-2, _twice())


MAKERS: dict[str, Callable[[str, int, Path], Workload]] = {
    "texts": _texts,
    "pairs": _pairs,
    "tabular": _tabular,
    "trees": _trees,
    "pictures": _pictures,
}


def _twice() -> tuple[Night, ...]:
    return (Night(COLD, "first", is_new=True), Night(SAME, "first"))


def _numbers(folder: Path, rows: int) -> None:
    chance = np.random.default_rng(28)
    for table, count in (("first", rows), (OTHERS, min(rows, OTHER_ROWS))):
        _write(folder, table, {"x": outputs_array(_normal(chance, count, FEATURES))})


def _normal(chance: np.random.Generator, rows: int, width: int) -> np.ndarray:
    return chance.standard_normal((rows, width), dtype=np.float32)


def _write(folder: Path, table: str, columns: dict[str, pa.Array]) -> None:
    rows = len(next(iter(columns.values())))
    given = pa.table({"id": np.arange(rows), **columns})
    write_table(given, table_path(folder, Night("", table)))
