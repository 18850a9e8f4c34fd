"""What scores with a runner of its own: Ray Data, Daft and distribatch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
import pandas as pd
import pyarrow as pa

from tests.bench.beside.plain import TEXT_BATCH, predictor, text_head
from tests.bench.beside.workload import (
    CORES,
    Night,
    Workload,
    array_of,
    inputs_of,
    outputs_array,
    read_workload,
    table_path,
)

if TYPE_CHECKING:
    from tests.bench.beside.on_spark import Score


@final
class Actor:
    """A Ray actor with the model: Arrow tables in, `id` and `output` out, one thread."""

    def __init__(self, folder: str, head: int) -> None:
        self.work = read_workload(Path(folder))
        self.predict = predictor(folder, head, 1)

    def __call__(self, batch: pa.Table) -> pa.Table:
        outputs = outputs_array(self.predict(inputs_of(self.work, batch)))
        return pa.table({"id": batch["id"], "output": outputs})


@contextmanager
def ray_data(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """Ray Data's `map_batches` on two actors of one thread; a night starts its actors anew."""
    import ray

    # Reading and writing are tasks as well: with two processors beside two actors none would start.
    ray.init(
        num_cpus=2 * CORES,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=1 << 30,
    )
    ray.data.DataContext.get_current().enable_progress_bars = False

    def score(night: Night, target: Path) -> None:
        rows = ray.data.read_parquet(str(table_path(folder, night)))
        made = rows.map_batches(
            Actor,
            fn_constructor_args=(str(folder), night.head),
            batch_format="pyarrow",
            batch_size=work.call_rows,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=CORES),
        )
        made.write_parquet(str(target))

    try:
        yield score
    finally:
        ray.shutdown()


@contextmanager
def daft_udf(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """A class UDF of Daft in two processes of one thread; a night starts them anew."""
    import daft
    from daft import DataType

    number = DataType.float32()
    made_type = number if work.width == 1 else DataType.list(number)

    class Model:
        def __init__(self, head: int) -> None:
            self.predict = predictor(str(folder), head, 1)

        @daft.method.batch(return_dtype=made_type, batch_size=work.call_rows)
        def score(self, *columns: Any) -> Any:
            given = {
                name: array_of(column.to_arrow(), width)
                for name, column, width in zip(work.columns, columns, work.widths, strict=True)
            }
            return outputs_array(self.predict(given))

    workers = daft.cls(Model, max_concurrency=CORES, use_process=True)

    def score(night: Night, target: Path) -> None:
        rows = daft.read_parquet(str(table_path(folder, night)))
        columns = [daft.col(name) for name in work.columns]
        made = rows.select(daft.col("id"), workers(night.head).score(*columns).alias("output"))
        made.write_parquet(str(target))

    yield score


@contextmanager
def distribatch(work: Workload, folder: Path, out: Path) -> Iterator[Score]:
    """distribatch's `EmbedJob` on Spark, with `dedupe`, and a checkpoint whose id is the content."""
    import distribatch as batch
    from pyspark.sql import functions as F

    from kvspark.demo.classifier import encoder_folder
    from tests.bench.beside.on_spark import spark_session

    job = batch.EmbedJob(
        model=batch.models.path(str(encoder_folder())),
        text="{text}",
        engine_options={"micro_batch_size": TEXT_BATCH},
    )
    heads = {head: _head_udf(folder, head) for head in work.heads}
    with spark_session(out) as spark:

        def score(night: Night, target: Path) -> None:
            rows = spark.read.parquet(str(table_path(folder, night)))
            options: dict[str, Any] = {"batch_size": work.call_rows, "dedupe": True}
            if not night.name.endswith("duplicates"):
                # Ids must be unique: the content is, but for the night of duplicates.
                rows = rows.withColumn("content", F.xxhash64("text"))
                options |= {"checkpoint": str(out / "checkpoint"), "id_col": "content"}
            made = job.run(rows, backend="spark", output_col="vector", **options)
            made = made.withColumn("output", heads[night.head]("vector")).select("id", "output")
            made.write.mode("overwrite").parquet(str(target))

        yield score
    shutil.rmtree(out / "checkpoint", ignore_errors=True)


def _head_udf(folder: Path, head: int) -> Callable[..., Any]:
    """The classifier over a column of vectors."""
    from pyspark.sql.pandas.functions import pandas_udf
    from pyspark.sql.types import ArrayType, FloatType

    @pandas_udf(ArrayType(FloatType()))  # type: ignore[call-overload]
    def scores(vectors: pd.Series) -> pd.Series:
        given = np.stack(list(vectors)).astype(np.float32)
        return pd.Series(list(text_head(folder, head)(given)))

    made: Callable[..., Any] = scores
    return made
