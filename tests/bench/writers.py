"""Who writes the rows: `make bench ARGS=writers`.

A table of 384 floats a row goes through the workers unchanged and becomes Parquet: by Spark's writer, by the workers
themselves, and into Spark's `noop`, which writes nothing. All take turns in one session. Seconds of CPU of driver, JVM and
workers stand beside the rate: what else runs on the machine changes them less.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from time import perf_counter
from typing import Any, cast, final

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from rich.console import Console
from rich.table import Table

from kvspark.config.job import SparkConfig
from kvspark.config.table.output_table import OutputConfig
from kvspark.spark.scoring.score import ScoredTable
from kvspark.spark.scoring.score_task import ScoreTask
from kvspark.spark.session.session import open_session
from kvspark.spark.writing.arrow_writer import write_by_workers

ROWS = 200_000
WIDTH = 384
FILES = 4
TARGET = 1.5
"""The least that the workers' rate is, as a multiple of Spark's writer."""

Write = Callable[[Path], None]


@final
class Unchanged:
    """A task that gives back what it is given."""

    def run(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches."""
        return iter(batches)


def write_table(folder: Path, rows: int) -> Path:
    """Random floats, in as many files as there are tasks."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number, ids in enumerate(np.array_split(np.arange(rows), FILES)):
        floats = pa.array(rng.standard_normal(len(ids) * WIDTH, dtype="float32"))
        ends = pa.array(np.arange(len(ids) + 1, dtype="int32") * WIDTH)
        table = pa.table({"id": ids, "x": pa.ListArray.from_arrays(ends, floats)})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=10_000)
    return folder


def writers(df: DataFrame) -> dict[str, Write]:
    """What is compared; each writes to a folder that does not exist yet."""
    task = Unchanged()
    output = OutputConfig.checked(path="/nowhere", writer="arrow")
    table = ScoredTable(df, cast("ScoreTask", task), tuple(df.schema.fields), ())

    def write(folder: Path) -> None:
        given = df.mapInArrow(task.run, df.schema).write
        given.option("compression", output.compression).parquet(str(folder))

    def discard(folder: Path) -> None:
        del folder
        df.mapInArrow(task.run, df.schema).write.format("noop").mode("append").save()

    def write_there(folder: Path) -> None:
        write_by_workers(table, folder, output)

    return {"spark": write, "arrow": write_there, "noop": discard}


def cpu_s() -> float:
    """Seconds of CPU that this process and all below it have used."""
    used = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used += times.user + times.system
    return used


def run(rows: int | None, rounds: int, folder: Path, console: Console) -> dict[str, Any]:
    """Measures all of it, prints the table, and gives it as JSON."""
    rows = rows or ROWS
    source = write_table(folder / "table", rows)
    spark = open_session(SparkConfig(master="local[2,4]"), name="writers")
    works = writers(spark.read.parquet(str(source)))
    rates: dict[str, list[float]] = {name: [] for name in works}
    used: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):  # the first one warms up
        for name, work in works.items():
            out = folder / f"{name}-{number:08x}"
            before, begun = cpu_s(), perf_counter()
            work(out)
            if number:
                rates[name].append(rows / (perf_counter() - begun))
                used[name].append(cpu_s() - before)
            shutil.rmtree(out, ignore_errors=True)
    spark.stop()
    table = Table("writer", "rows/s", "range", "s of CPU")
    for name in works:
        low, middle, high = min(rates[name]), statistics.median(rates[name]), max(rates[name])
        cpu = statistics.median(used[name])
        table.add_row(name, f"{middle:,.0f}", f"{low:,.0f} - {high:,.0f}", f"{cpu:.1f}")
    console.print(table)
    ratio = statistics.median(rates["arrow"]) / statistics.median(rates["spark"])
    console.print(f"arrow / spark {ratio:.2f}, asked for {TARGET}")
    return {
        "rows": rows,
        "rates": rates,
        "cpu_s": used,
        "ratio": ratio,
        "targets_met": ratio >= TARGET,
    }
