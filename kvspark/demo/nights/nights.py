"""Three nights of one scoring job, and what each of them had to compute.

    night 1   a table, and an empty cache                 everything is computed
    night 2   the table as it is a night later            only what changed is computed
    night 3   that table again, with a re-trained head    the trunk is not run, its weights not read

Each night is scored once more with the cache off, and both outputs must have the same bits. The
head of night 3 is trained on the vectors that the nights before have left in the cache.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, final

import pyarrow as pa
from rich.console import Console

from kvspark.cache.cache import Cache
from kvspark.config.cache import CacheConfig
from kvspark.config.job import SparkConfig
from kvspark.demo.classifier import encoder_folder, load_trunk
from kvspark.demo.models import Models
from kvspark.demo.nights.night import Night, nights_in, shipped_nights
from kvspark.demo.nights.outcome import Outcome, complaints, table
from kvspark.demo.nights.picture import picture
from kvspark.demo.nights.scoring import JOB, Job
from kvspark.demo.nights.steps import Steps
from kvspark.demo.training import Training, all_rows, first_rows, train
from kvspark.spark.session.session import open_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def run_demo(nights_dir: Path | None, out: Path) -> int:
    """Runs the nights and prints what came of them: 0 if they did what they should, else 1.

    The nights are those that come with the package, or the Parquet files and folders in
    `nights_dir`; the last one is scored again with the re-trained head. Writes below `out`, where it
    replaces what an earlier demo left: models, cache, outputs, `demo.json` and `nights.svg`.

    Raises:
        UsageError: the encoder is not installed, or `nights_dir` holds no nights.
        DataError: a night cannot be used.
    """
    nights = shipped_nights() if nights_dir is None else nights_in(nights_dir)
    tables = [night.read() for night in nights]
    console = Console()
    steps = Steps(console)
    with steps.step("check the encoder's weights"):
        encoder_folder()
    _clear(out)
    config = CacheConfig(url=f"embedded:{(out / 'cache').absolute()}", namespace=JOB)
    # In use from the first night to the last, so that its server runs on between them.
    with closing(Cache.from_config(config)) as cache:
        cache.check()
        with steps.step("export the encoder as a graph"):
            models = Models(load_trunk())
        with steps.step("start Spark"):
            spark = open_session(SparkConfig(), name=JOB)
        demo = _Demo(spark, models, cache, config, out, steps)
        outcomes, trainings = demo.run(nights, tables)
    _write(out, outcomes, trainings)
    return _tell(console, out, outcomes)


@final
@dataclass(frozen=True, slots=True)
class _Demo:
    """What all nights share."""

    spark: SparkSession
    models: Models
    cache: Cache
    config: CacheConfig
    """Of the cache."""
    out: Path
    steps: Steps

    def run(
        self, nights: Sequence[Night], tables: Sequence[pa.Table]
    ) -> tuple[list[Outcome], list[Training]]:
        """What the nights came to, and how the two heads were made."""
        with self.steps.step("train the first head on labelled rows, without a cache"):
            first = train(self.spark, self.models.trunk, first_rows(tables[0]), cache=None)
        model = self.models.save_with_head(first.head, self.out / "models" / "head-1")
        outcomes, seen = list[Outcome](), set[str]()
        for night, rows in zip(nights, tables, strict=True):
            texts = set(rows["text"].to_pylist())
            job = self._job(len(outcomes) + 1, night.name, night.path, model)
            outcomes.append(self._score(job, first, new_texts=len(texts - seen)))
            seen |= texts
        with self.steps.step("train a new head on the vectors in the cache"):
            second = train(self.spark, self.models.trunk, all_rows(tables[-1]), cache=self.cache)
        model = self.models.save_with_head(second.head, self.out / "models" / "head-2")
        name = f"{nights[-1].name}, new head"
        job = self._job(len(outcomes) + 1, name, nights[-1].path, model)
        outcomes.append(self._score(job, second, new_texts=0))
        return outcomes, [first, second]

    def _job(self, number: int, name: str, path: Path, model: Path) -> Job:
        return Job(self.spark, f"night {number}: {name}", path, model, self.out / f"night-{number}")

    def _score(self, job: Job, training: Training, *, new_texts: int) -> Outcome:
        """One night; its twin without the cache goes first, and pays for a Spark that is cold."""
        self.steps.heading(job.name)
        with self.steps.step("score it without the cache", shows_itself=True):
            off = job.run(None)
        with self.steps.step("score it with the cache", shows_itself=True):
            run = job.run(self.config)
        with self.steps.step("compare the two outputs, bit for bit"):
            return job.outcome(run, off, training.trained, new_texts=new_texts)


def _clear(out: Path) -> None:
    """Removes what an earlier demo left, and nothing else that may be there."""
    for name in ("cache", "models"):
        shutil.rmtree(out / name, ignore_errors=True)
    for old in out.glob("night-*"):
        shutil.rmtree(old, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)


def _write(out: Path, outcomes: Sequence[Outcome], trainings: Sequence[Training]) -> None:
    value = {
        "nights": [outcome.to_json() for outcome in outcomes],
        "trainings": [training.to_json() for training in trainings],
        "complaints": complaints(outcomes),
    }
    (out / "demo.json").write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    (out / "nights.svg").write_text(picture(outcomes), encoding="utf-8")


def _tell(console: Console, out: Path, outcomes: Sequence[Outcome]) -> int:
    console.print()
    console.print(table(outcomes))
    for outcome in outcomes:
        console.print(f"{outcome.output}/*.parquet  {outcome.run_report}", soft_wrap=True)
    console.print(f"{out / 'demo.json'}  {out / 'nights.svg'}", soft_wrap=True)
    wrong = complaints(outcomes)
    for complaint in wrong:
        console.print(f"[bold red]{complaint}", soft_wrap=True)
    return 1 if wrong else 0
