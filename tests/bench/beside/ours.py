"""kvspark on the same session: `kvspark.score` and a job, without a cache and with a Redis of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import kvspark
from tests.bench.beside.nets import FEATURES, SIDE, Pairs, Tabular, TextHead, TextNet
from tests.bench.beside.on_spark import Score, on_spark, spark_session
from tests.bench.beside.workload import Night, Workload, table_path


@contextmanager
def kvspark_without_cache(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """Every row is computed, every night."""
    models = {head: model_of(work, folder, head) for head in work.heads}
    with spark_session(out) as spark:
        yield on_spark(spark, folder, lambda df, night: kvspark.score(df, models[night.head]))


@contextmanager
def kvspark_with_redis(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """With a Redis beside it that starts empty; entries are sealed, as they are by default."""
    from tests.redis_server import running_redis

    models = {head: model_of(work, folder, head) for head in work.heads}
    with running_redis() as server, spark_session(out) as spark:
        cache = kvspark.Cache.connect(server.url, namespace="bench")
        yield on_spark(
            spark, folder, lambda df, night: kvspark.score(df, models[night.head], cache=cache)
        )


@contextmanager
def kvspark_job(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """A job: preflight, scoring, validation and publishing; its output has the columns of its input too."""
    with _job(work, folder, out, {}) as score:
        yield score


@contextmanager
def kvspark_job_with_redis(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """The same with a Redis beside it; what is cached is measured before each run."""
    from tests.redis_server import running_redis

    with running_redis() as server, _job(work, folder, out, {"cache": server.url}) as score:
        yield score


@contextmanager
def _job(work: Workload, folder: Path, out: Path, more: dict[str, Any]) -> Iterator[Score]:
    paths = {head: out / "models" / str(head) for head in work.heads}
    for head, path in paths.items():
        model_of(work, folder, head).save(path)
    with spark_session(out) as spark:

        def score(night: Night, target: Path) -> None:
            conf = {
                "run": {"name": "bench"},
                "input": {"paths": [str(table_path(folder, night))]},
                "model": {"path": str(paths[night.head])},
                "output": {"path": str(target)},
                **more,
            }
            kvspark.run(conf, spark=spark)

        yield score


@cache
def model_of(work: Workload, folder: Path, head: int) -> kvspark.Model:
    """The workload's model, with nothing said about cuts, rows of a call or a plan."""
    if work.kind == "texts":
        return _texts(folder, head)
    if work.kind == "trees":
        return kvspark.Model.from_onnx(folder / "model.onnx", name=work.kind)
    if work.kind == "pictures":
        return _pictures()
    net: torch.nn.Module = Tabular()
    examples = {"x": torch.zeros(2, FEATURES)}
    if work.kind == "pairs":
        net = Pairs(work.name.partition("-")[2])
        examples = {"user": torch.zeros(2, SIDE), "item": torch.zeros(2, SIDE)}
    net.load_state_dict(load_file(folder / "model.safetensors"))
    return kvspark.Model.from_torch(net.eval(), examples, name=work.name)


def _texts(folder: Path, head: int) -> kvspark.Model:
    from kvspark.demo.classifier import MAX_LENGTH, encoder_folder, load_trunk

    top = TextHead()
    top.load_state_dict(load_file(folder / f"head-{head}.safetensors"))
    features = kvspark.TextFeatures.from_pretrained(encoder_folder(), max_length=MAX_LENGTH)
    net = TextNet(load_trunk(), top).eval()
    return kvspark.Model.from_torch(net, features=features, name="texts")


def _pictures() -> kvspark.Model:
    from tests.bench.beside.plain import PICTURE_SIZE
    from tests.real_models import efficientnet

    features = kvspark.ImageFeatures(
        size=(PICTURE_SIZE, PICTURE_SIZE),
        mean=(127, 127, 127),
        std=(128, 128, 128),
        scale=1.0,
        output="inputs",
    )
    return kvspark.Model.from_torch(efficientnet(), features=features, name="pictures")
