"""Workers that are killed in the middle of a task, at every kind of target: readers see whole tables, rows are there once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import SparkSession

import kvspark
from kvspark.errors import KvsparkError
from kvspark.fault import FAULT_ONCE_ENV, FAULT_POINT_ENV
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.table.objects.storage import Storage
from kvspark.table.place.opening import open_objects
from tests.object_server import S3Address
from tests.spark.small_jobs import job, published, write_night
from tests.table.publish.iceberg_tables import iceberg_at, iceberg_table
from tests.table.publish.readers import left_over, while_reading
from tests.table.publish.targets import POSIX_KINDS, new_url

pytestmark = [pytest.mark.spark, pytest.mark.slow]

KINDS = ("s3", "hdfs", "delta", "delta-s3", "iceberg", "iceberg-s3")


@final
@dataclass(frozen=True, slots=True)
class Night:
    """Rows, and what a run publishes of them."""

    rows: Path
    published: pa.Table


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, mlp: Model) -> Path:
    made = tmp_path_factory.mktemp("nights")
    mlp.save(made / "model")
    return made


@pytest.fixture(scope="module")
def nights(spark: SparkSession, folder: Path) -> list[Night]:
    found: list[Night] = []
    for number in range(3):
        rows = write_night(folder / f"night{number}", seed=number)
        run_score(job(folder, rows, output={"writer": "arrow"}), spark=spark)
        found.append(Night(rows, published(folder / "out")))
    return found


@final
class Target:
    """A target of a kind, and runs whose rows go there."""

    def __init__(self, kind: str, url: str, folder: Path, spark: SparkSession) -> None:
        self.kind, self.url = kind, url
        self._folder, self._spark = folder, spark

    def run(self, night: Night) -> None:
        """The run of `night`."""
        config = job(self._folder, night.rows, run={"id": night.rows.name}, output=self._output())
        run_score(config, spark=self._spark)

    def read(self) -> pa.Table:
        """What the readers of the format find, as a local folder has it."""
        if self.kind.startswith("delta"):
            found = pa.table(DeltaTable(self.url).to_pyarrow_table())
        elif self.kind.startswith("iceberg"):
            found = iceberg_table(self.url).scan().to_arrow()
        else:
            found = kvspark.read(self.url).to_table()
        return found.sort_by("id").cast(published(self._folder / "out").schema)

    def left_over(self) -> list[str]:
        """Files that no version has: those of dead runs, and of dead tasks of runs that live."""
        strays: list[str] = []
        if self.kind.startswith("delta"):
            last = DeltaTable(self.url).version()
            logged = [DeltaTable(self.url, version=each).file_uris() for each in range(last + 1)]
            known = {uri.rpartition("/")[2] for uris in logged for uri in uris}
            names = (
                [each.name for each in open_objects(Storage(self.url)).listed("runs")]
                if ("://" in self.url)
                else [str(each) for each in Path(self.url, "runs").rglob("*.parquet")]
            )
            strays = [name for name in names if name.rpartition("/")[2] not in known]
        return [*strays, *left_over(self.kind, self.url)]

    def _output(self) -> dict[str, Any]:
        if self.kind.startswith("iceberg"):
            target = iceberg_at(self.url)
            return {"format": "iceberg", "path": target.url, "catalog": target.properties}
        return {"format": "delta" if "delta" in self.kind else "parquet", "path": self.url}

    @contextmanager
    def killing(self, point: str, once: Path | None = None) -> Iterator[None]:
        """Workers that get to `point` are killed; only the first one, which makes `once`, if that is given."""
        environment = self._spark.sparkContext.environment
        values = {FAULT_POINT_ENV: point, **({} if once is None else {FAULT_ONCE_ENV: str(once)})}
        environment.update(values)
        try:
            yield
        finally:
            for name in values:
                environment.pop(name)


@pytest.fixture(params=KINDS)
def target(
    request: pytest.FixtureRequest, spark: SparkSession, folder: Path, tmp_path: Path
) -> Iterator[Target]:
    kind = request.param
    if kind in (*POSIX_KINDS, "hdfs"):
        base = request.getfixturevalue("hdfs").url if kind == "hdfs" else ""
        yield Target(kind, new_url(kind, base, tmp_path), folder, spark)
        return
    server: S3Address = request.getfixturevalue("s3")
    # Workers reach it as well: the session may be older than the server.
    environment = spark.sparkContext.environment
    environment.update(server.environment)
    yield Target(kind, new_url(kind, server.url, tmp_path), folder, spark)
    for name in server.environment:
        environment.pop(name)


def test_what_a_killed_worker_had_written_is_written_again_and_there_once(
    target: Target, nights: list[Night], tmp_path: Path
) -> None:
    target.run(nights[0])
    for before, after, point in zip(nights, nights[1:], ("task_batch", "task_file"), strict=False):
        once = tmp_path / point
        with target.killing(point, once=once):
            found = while_reading(target.read, partial(target.run, after))
        assert once.exists()  # a worker was killed
        assert all(table in (before.published, after.published) for table in found)
        assert target.read() == after.published
        assert target.left_over() == []


def test_workers_that_are_killed_each_time_leave_the_old_rows_and_the_next_run_is_right(
    target: Target, nights: list[Night]
) -> None:
    before, after, _ = nights
    target.run(before)

    def fails() -> None:
        died = pytest.raises(KvsparkError, match=r"died in every attempt \(4\)")
        with target.killing("task_file"), died:
            target.run(after)

    assert while_reading(target.read, fails) == [before.published]
    target.run(after)
    assert target.read() == after.published
    assert target.left_over() == []
