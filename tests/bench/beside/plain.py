"""Each model without kvspark: a function of arrays, as somebody writes it for a UDF, an actor or a loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np

from tests.bench.beside.workload import Columns, Workload, read_workload

TEXT_BATCH = 32
"""What sentence-transformers takes by default."""
PICTURE_SIZE = 224
PICTURES_A_CALL = 16

Predict = Callable[[Columns], np.ndarray]
"""Inputs of any number of rows to outputs, (rows,) or (rows, width)."""


@cache
def predictor(folder: str, head: int, threads: int) -> Predict:
    """The model of a workload, loaded once in a process, on so many threads of torch and onnxruntime."""
    import torch

    torch.set_num_threads(threads)
    where = Path(folder)
    work = read_workload(where)
    if work.kind == "texts":
        return _texts(where, head)
    if work.kind == "trees":
        return _trees(work, where, threads)
    if work.kind == "pictures":
        return _pictures(work)
    return _network(work, where)


@cache
def encoder() -> object:
    """The text encoder, by sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    from kvspark.demo.classifier import encoder_folder

    logging.disable_progress_bar()
    return SentenceTransformer(str(encoder_folder()), device="cpu", local_files_only=True)


def text_head(folder: Path, head: int) -> Callable[[np.ndarray], np.ndarray]:
    """The classifier on top of the encoder's vectors, float32 (rows, 384)."""
    import torch
    from safetensors.torch import load_file

    from tests.bench.beside.nets import TextHead

    net = TextHead()
    net.load_state_dict(load_file(folder / f"head-{head}.safetensors"))
    net.eval()

    def scores(vectors: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            made: np.ndarray = net(torch.from_numpy(vectors)).numpy()
        return made

    return scores


def _texts(folder: Path, head: int) -> Predict:
    model, scores = encoder(), text_head(folder, head)

    def predict(columns: Columns) -> np.ndarray:
        # It sorts what it gets by length, and makes batches of that.
        vectors = model.encode(  # type: ignore[attr-defined]
            list(columns["text"]), batch_size=TEXT_BATCH, show_progress_bar=False
        )
        return scores(vectors)

    return predict


def _network(work: Workload, folder: Path) -> Predict:
    import torch
    from safetensors.torch import load_file

    from tests.bench.beside.nets import Pairs, Tabular

    net = Tabular() if work.kind == "tabular" else Pairs(work.name.partition("-")[2])
    net.load_state_dict(load_file(folder / "model.safetensors"))
    net.eval()

    def predict(columns: Columns) -> np.ndarray:
        given = [
            torch.from_numpy(np.ascontiguousarray(columns[name], dtype=np.float32))
            for name in work.columns
        ]
        with torch.inference_mode():
            made: np.ndarray = net(*given).numpy()
        return made

    return _in_calls(predict, work.call_rows)


def _trees(work: Workload, folder: Path, threads: int) -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )

    def predict(columns: Columns) -> np.ndarray:
        made: np.ndarray = session.run(
            ["output"], {"x": np.ascontiguousarray(columns["x"], dtype=np.float32)}
        )[0]
        return made

    return _in_calls(predict, work.call_rows)


def _pictures(work: Workload) -> Predict:
    import torch
    from PIL import Image

    from tests.real_models import efficientnet

    net = efficientnet()

    def pixels(file: bytes) -> np.ndarray:
        with Image.open(BytesIO(file)) as picture:
            small = picture.convert("RGB").resize((PICTURE_SIZE,) * 2, Image.Resampling.BILINEAR)
        return ((np.asarray(small, dtype=np.float32) - 127) / 128).transpose(2, 0, 1)

    def predict(columns: Columns) -> np.ndarray:
        given = np.ascontiguousarray(np.stack([pixels(file) for file in columns["image"]]))
        with torch.inference_mode():
            made: np.ndarray = net(torch.from_numpy(given)).numpy()
        return made

    return _in_calls(predict, work.call_rows)


def _in_calls(predict: Predict, rows: int) -> Predict:
    """The same in calls of at most `rows` rows, whatever the caller passes."""

    def in_calls(columns: Columns) -> np.ndarray:
        count = len(next(iter(columns.values())))
        if count <= rows:
            return predict(columns)
        made = [
            predict({name: values[begin : begin + rows] for name, values in columns.items()})
            for begin in range(0, count, rows)
        ]
        return np.concatenate(made)

    return in_calls
