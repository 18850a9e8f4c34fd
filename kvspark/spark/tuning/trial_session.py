"""The Spark session of a trial: the one before where its settings allow it, else a new one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import final

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from kvspark.config.job import SparkConfig
from kvspark.spark.session.session import open_session

TASK_CPUS = "spark.task.cpus"
ARROW_ROWS = "spark.sql.execution.arrow.maxRecordsPerBatch"
DEFAULT_ARROW_ROWS = "10000"


@final
class TrialSessions:
    """One session at a time, and the rows that it holds.

    Rows of an Arrow batch are set in a session that runs; the CPUs of a task are those of its start.
    """

    def __init__(
        self, config: SparkConfig, spark: SparkSession, *, name: str, is_own: bool
    ) -> None:
        """`spark` is a session of `config`; one that somebody else has started is never stopped."""
        self._name = name
        self.is_own = is_own
        self._spark = spark
        self._started_with = self._fixed(config)
        self._arrow_rows = self.setting(ARROW_ROWS, DEFAULT_ARROW_ROWS)
        self._held: dict[str, DataFrame] = {}

    @property
    def spark(self) -> SparkSession:
        """The session that runs now."""
        return self._spark

    def setting(self, name: str, default: str) -> str:
        """What the session that runs has for the setting `name`."""
        return str(self._spark.sparkContext.getConf().get(name, default))

    def of(self, config: SparkConfig) -> SparkSession:
        """The session with the settings of `config`."""
        if self.is_own and self._fixed(config) != self._started_with:
            self._spark.stop()
            self._held.clear()
            self._spark = open_session(config, name=self._name)
            self._started_with = self._fixed(config)
        self._spark.conf.set(ARROW_ROWS, config.conf.get(ARROW_ROWS, self._arrow_rows))
        return self._spark

    def rows(self, name: str, table: pa.Table, schema: StructType) -> DataFrame:
        """`table` in the memory of the session, on all of its cores."""
        if name not in self._held:
            cores = self._spark.sparkContext.defaultParallelism
            df = self._spark.createDataFrame(table, schema=schema).repartition(cores)
            df = df.persist(StorageLevel.MEMORY_AND_DISK)
            df.count()
            self._held[name] = df
        return self._held[name]

    def forget(self) -> None:
        """Lets go of all rows."""
        for df in self._held.values():
            df.unpersist()
        self._held.clear()

    def close(self) -> None:
        """Stops the session if it is one of these."""
        self.forget()
        if self.is_own:
            self._spark.stop()

    @staticmethod
    def _fixed(config: SparkConfig) -> Mapping[str, str]:
        return {key: value for key, value in config.conf.items() if key != ARROW_ROWS}
