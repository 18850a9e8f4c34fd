"""What is shown while a table is scored: rows of all, the hit rate, the time that is left."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from kvspark.spark.runs.progress import LINE_S, Look, duration, in_lines, on_terminal, progress
from kvspark.spark.runs.rows_done import RowsDone
from kvspark.spark.runs.tally import Tally

HALF = Look(rows=500, all_rows=1000, tasks=1, all_tasks=2, lookups=400, hits=300)


class Moments:
    """A clock that waiting alone moves, and an end after so many waits."""

    def __init__(self, waits: int) -> None:
        self.now = 100.0
        self._left = waits

    def clock(self) -> float:
        return self.now

    def wait(self, timeout: float) -> bool:
        self._left -= 1
        self.now += timeout
        return self._left < 0


@pytest.mark.parametrize(
    ("look", "line"),
    [
        (HALF, "500 of 1,000 rows (50 %), hit rate 75.0%, 40 s so far, about 40 s left"),
        (Look(0, 1000, 0, 2), "no rows of 1,000 yet, 40 s so far"),
        (Look(0, 1000, 3, 8), "no rows of 1,000 yet, 3 of 8 tasks, 40 s so far"),
        (Look(250, 1000, 0, 2), "250 of 1,000 rows (25 %), 40 s so far, about 2 min left"),
        (Look(2, 1000, 0, 2), "2 of 1,000 rows (0 %), 40 s so far"),
        (Look(999, 1000, 0, 2), "999 of 1,000 rows (99 %), 40 s so far, about 0 s left"),
        (Look(1000, 1000, 2, 2, 10, 0), "1,000 of 1,000 rows (100 %), hit rate 0.0%, 40 s so far"),
        (Look(0, 0, 0, 1), "no rows of 0 yet, 40 s so far"),
    ],
)
def test_a_moment_in_words(look: Look, line: str) -> None:
    assert look.line(40.0) == line


def test_a_duration_is_said_as_people_say_it() -> None:
    said = [duration(s) for s in (0.4, 59.4, 60, 185, 3600, 7830)]
    assert said == ["0 s", "59 s", "1 min", "3 min 5 s", "1 h", "2 h 10 min"]


def test_without_a_terminal_there_is_a_line_every_half_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="kvspark")
    moments = Moments(waits=3)
    in_lines("score", lambda: HALF, moments, moments.clock)
    so_far = [record.getMessage().split(", ")[2] for record in caplog.records]
    assert so_far == ["30 s so far", "1 min so far", "1 min 30 s so far"]
    assert LINE_S == 30.0


NIGHT = Look(412_345_678, 1_000_000_000, 7, 20, lookups=10**9, hits=987_654_321)


def test_a_look_that_fails_is_no_failure_of_what_is_watched(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = threading.Event()

    def gone() -> Look:
        looked.set()
        raise ConnectionError("the JVM has ended")

    monkeypatch.setattr("kvspark.spark.runs.progress.LINE_S", 0.001)
    caplog.set_level(logging.DEBUG, logger="kvspark")
    with progress("score", gone):
        assert looked.wait(60)
    assert "nothing more to see of score" in caplog.text


@pytest.mark.parametrize("look", [HALF, NIGHT], ids=["small", "large"])
def test_a_terminal_of_80_columns_has_one_line_that_is_gone_at_the_end(look: Look) -> None:
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=80, height=20)
    moments = Moments(waits=40)
    on_terminal("score", lambda: look, moments, moments.clock, console)
    text = written.getvalue()
    assert f"{look.rows:,} of {look.all_rows:,} rows, hit rate " in text
    assert " left" in text
    assert "…" not in text
    assert text.endswith("\x1b[2K")  # the line is erased
    assert "\x1b[2A" not in text  # it never took two


def heard(spark: SparkSession) -> None:
    """Waits until Spark's driver has heard of all that its executors said."""
    spark.sparkContext._jsc.sc().listenerBus().waitUntilEmpty()


def passed_on(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches


@pytest.mark.spark
def test_rows_are_seen_that_no_task_has_counted(spark: SparkSession) -> None:
    done = RowsDone(spark, Tally(spark), 1000)
    with done.watched("test"):
        numbers = spark.range(0, 1000, 1, 2).mapInArrow(passed_on, "id long")
        numbers.write.format("noop").mode("overwrite").save()
    heard(spark)
    look = done.look()
    assert (look.rows, look.all_rows, look.lookups) == (1000, 1000, 0)
    assert look.tasks == look.all_tasks == 2


@pytest.mark.spark
def test_jobs_of_others_do_not_count(spark: SparkSession) -> None:
    done = RowsDone(spark, Tally(spark), 10)
    with done.watched("test"):
        pass
    spark.range(10).mapInArrow(passed_on, "id long").count()
    heard(spark)
    assert done.look() == Look(0, 10, 0, 0)


@pytest.mark.spark
def test_another_spark_that_gives_no_rows_is_no_failure(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> int:
        raise AttributeError("sharedState")

    monkeypatch.setattr("kvspark.spark.runs.rows_done._rows_out", gone)
    done = RowsDone(spark, Tally(spark), 10)
    with done.watched("test"):
        spark.range(10).count()
    heard(spark)
    assert done.look().rows == 0
    assert done.look().tasks > 0
