"""Eight workloads: what people score, from rows of a microsecond to rows of milliseconds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import torch
from torch import nn

import kvspark
from kvspark.demo.classifier import MAX_LENGTH, encoder_folder, load_trunk
from kvspark.demo.nights.night import shipped_nights
from kvspark.infer.model import Model
from tests.bench.beside.nets import FEATURES, SIDE, Pairs, Tabular, TextHead, TextNet
from tests.bench.beside.prepare import DISTINCT, ITEMS, TREES, USERS
from tests.bench.beside.workload import outputs_array
from tests.bench.foretold.workload import Columns, Workload
from tests.bench.plans import Headed, layers

WORDS = 8
"""Of a text: short ones, so that enough rows to measure a plan for take seconds."""
EDGE = 48
"""Pixels of a picture's side."""
WIDE = 384
INPUTS = 64
DEPTH = 5


def _torch(module: nn.Module, name: str, **shapes: int) -> Model:
    examples = {column: torch.zeros(2, width) for column, width in shapes.items()}
    return Model.from_torch(module.eval(), examples, name=name)


def _tabular(head: int) -> Model:
    torch.manual_seed(head)
    return _torch(Tabular(), "tabular", x=FEATURES)


def _pairs(head: int) -> Model:
    torch.manual_seed(head)
    return _torch(Pairs("mlp"), "pairs", user=SIDE, item=SIDE)


def _wide(head: int) -> Model:
    torch.manual_seed(1)
    trunk = layers(INPUTS, 1024, WIDE)
    torch.manual_seed(2 + head)
    return _torch(Headed(trunk, layers(WIDE, 8)), "wide", x=INPUTS)


def _texts(head: int) -> Model:
    features = kvspark.TextFeatures.from_pretrained(encoder_folder(), max_length=MAX_LENGTH)
    torch.manual_seed(3 + head)
    return Model.from_torch(
        TextNet(load_trunk(), TextHead()).eval(), features=features, name="texts"
    )


def _trees(head: int) -> Model:
    """As boosting leaves them, with random splits: what a row takes is the same."""
    import onnx
    from onnx import helper

    chance = np.random.default_rng(head)
    inner, nodes = 2**DEPTH - 1, 2 ** (DEPTH + 1) - 1
    own = np.tile(np.arange(nodes), TREES)
    is_leaf = own >= inner
    leaves = own[is_leaf]
    tree_of = np.repeat(np.arange(TREES), nodes)
    node = helper.make_node(
        "TreeEnsembleRegressor",
        ["x"],
        ["output"],
        domain="ai.onnx.ml",
        n_targets=1,
        nodes_treeids=tree_of,
        nodes_nodeids=own,
        nodes_featureids=chance.integers(0, FEATURES, len(own)),
        nodes_values=chance.standard_normal(len(own)).astype("f4"),
        nodes_modes=["LEAF" if leaf else "BRANCH_LEQ" for leaf in is_leaf],
        nodes_truenodeids=np.where(is_leaf, 0, 2 * own + 1),
        nodes_falsenodeids=np.where(is_leaf, 0, 2 * own + 2),
        target_treeids=tree_of[is_leaf],
        target_nodeids=leaves,
        target_ids=np.zeros(len(leaves), dtype=int),
        target_weights=chance.standard_normal(len(leaves)).astype("f4"),
    )
    given, made = (
        helper.make_tensor_value_info(name, 1, [None, width])
        for name, width in (("x", FEATURES), ("output", 1))
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(
        helper.make_graph([node], "trees", [given], [made]), opset_imports=opsets, ir_version=9
    )
    with TemporaryDirectory() as folder:
        onnx.save(model, str(Path(folder) / "trees.onnx"))
        return Model.from_onnx(Path(folder) / "trees.onnx", name="trees")


def _pictures(head: int) -> Model:
    torch.manual_seed(head)
    features = kvspark.ImageFeatures(
        size=(EDGE, EDGE), mean=(127, 127, 127), std=(128, 128, 128), scale=1.0, output="x"
    )
    convolutions = [
        part
        for a, b in ((3, 16), (16, 32), (32, 64))
        for part in (nn.Conv2d(a, b, 3, stride=2, padding=1), nn.ReLU())
    ]
    trunk = nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Model.from_torch(
        Headed(trunk, nn.Linear(64, 10)).eval(), features=features, name="pictures"
    )


def _numbers(rows: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, width), dtype=np.float32)


def _rows_of(width: int, rows: int) -> Sequence[Columns]:
    return [{"x": outputs_array(_numbers(rows, width))}]


def _growing(rows: int) -> Sequence[Columns]:
    """Each night a tenth of the rows is new, at the end of the table, and as many old ones are gone."""
    every = outputs_array(_numbers(rows + 2 * (rows // 10), INPUTS))
    return [{"x": every.slice(night * (rows // 10), rows)} for night in range(3)]


def _pairs_of(rows: int) -> Sequence[Columns]:
    chance = np.random.default_rng(4)
    known = {"user": _numbers(USERS, SIDE, 5), "item": _numbers(ITEMS, SIDE, 6)}
    return [
        {
            name: outputs_array(each[chance.integers(0, len(each), rows)])
            for name, each in known.items()
        }
    ]


@cache
def _every_text() -> list[str]:
    """Parts of the demo's texts, all different."""
    made: dict[str, None] = {}
    for text in shipped_nights()[0].read()["text"].to_pylist():
        words = text.split()
        made |= {
            " ".join(words[start : start + WORDS]): None for start in range(0, len(words), WORDS)
        }
    every = list(made)
    return [every[place] for place in np.random.default_rng(7).permutation(len(every))]


def _changed_texts(rows: int) -> Sequence[Columns]:
    """Each night a fifth of the rows is new, here and there."""
    texts, fifth = _every_text(), rows // 5
    tables = [texts[:rows]]
    for night in range(2):
        table = list(tables[-1])
        table[night::5] = texts[rows + night * fifth :][: len(table[night::5])]
        tables.append(table)
    return [{"text": pa.array(table)} for table in tables]


def _repeated_texts(rows: int) -> Sequence[Columns]:
    """42 % of the rows are duplicates."""
    chance = np.random.default_rng(8)
    known = _every_text()[: int(DISTINCT * rows)]
    again = chance.integers(0, len(known), rows - len(known))
    table = known + [known[place] for place in again]
    return [{"text": pa.array([table[place] for place in chance.permutation(rows)])}]


def _photos(rows: int) -> Sequence[Columns]:
    from PIL import Image

    from tests.real_models import photographs

    chance = np.random.default_rng(9)
    photos = [Image.open(BytesIO(file)).convert("RGB") for file in photographs().values()]

    def piece(number: int) -> bytes:
        photo = photos[number % len(photos)]
        left, top = (int(chance.integers(0, edge - EDGE)) for edge in photo.size)
        file = BytesIO()
        photo.crop((left, top, left + EDGE, top + EDGE)).save(file, "JPEG", quality=90)
        return file.getvalue()

    return [{"image": pa.array([piece(number) for number in range(rows)], pa.binary())}]


ANOTHER = ((0, 0), (1, 0), (2, 0))
WORKLOADS = (
    Workload("MLP 16-64-64-2", 1_000_000, 20_000, _tabular, lambda n: _rows_of(FEATURES, n)),
    Workload("pairs, towers and an MLP", 300_000, 20_000, _pairs, _pairs_of),
    Workload(f"{TREES} trees, ONNX", 200_000, 10_000, _trees, lambda n: _rows_of(FEATURES, n)),
    Workload("384 wide, 10 % new at the end", 100_000, 10_000, _wide, _growing, ANOTHER),
    Workload("pictures", 20_000, 10_000, _pictures, _photos),
    Workload(
        "texts, 20 % new, then another head",
        10_000,
        10_000,
        _texts,
        _changed_texts,
        ((0, 0), (1, 0), (2, 1)),
    ),
    Workload("texts, the same", 10_000, 10_000, _texts, lambda n: _changed_texts(n)[:1]),
    Workload("texts, 42 % duplicates", 10_000, 10_000, _texts, _repeated_texts),
)
