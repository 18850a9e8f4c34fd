"""Which way a model goes to the workers, and how a worker finds its files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import final

from pyspark.sql import SparkSession
from typing_extensions import assert_never

from kvspark.config.cache import CacheConfig
from kvspark.config.model import Way
from kvspark.errors import UsageError
from kvspark.model.bundle.bundle import Bundle
from kvspark.model.bundle.files import BundleFiles, Listed
from kvspark.spark.session.connect import is_connect
from kvspark.spark.weights.by_artifact import by_artifact
from kvspark.spark.weights.by_broadcast import by_broadcast
from kvspark.spark.weights.by_path import by_path
from kvspark.spark.weights.by_store import by_store
from kvspark.spark.weights.host_files import HostFiles
from kvspark.spark.weights.transport import Shipped

_LOG = logging.getLogger(__name__)


def ship(
    spark: SparkSession, bundle: Bundle, way: Way | None = None, cache: CacheConfig | None = None
) -> Shipped:
    """`bundle` on its way to the workers: by broadcast, or by artifact under Spark Connect, if `way` is None.

    `cache` names the store that `way="redis"` takes. A store that does not take all of it is not
    used: the model goes by broadcast then. Where Spark encrypts its files (`spark.io.encryption.enabled`)
    a broadcast is an artifact: every worker would read an encrypted broadcast to its end before its
    first row, all stages of it, and keep that copy (D55).

    Raises:
        BundleError: a file is missing or damaged.
        UsageError: this way is not open to this session, model or cache.
    """
    if way is None:
        way = "artifact" if is_connect(spark) else "broadcast"
    if way == "broadcast":
        if is_connect(spark):
            raise UsageError(
                "Spark Connect has no broadcasts; leave weights out, or take 'artifact', 'path' or 'redis'"
            )
        if _is_encrypted(spark):
            _LOG.info("Spark encrypts its files: the weights go as artifacts of the session")
            return by_artifact(spark, bundle)
        return by_broadcast(spark, bundle)
    if way == "artifact":
        return by_artifact(spark, bundle)
    if way == "path":
        return by_path(bundle)
    if way == "redis":
        return by_store(bundle, cache) or ship(spark, bundle)
    assert_never(way)


def _is_encrypted(spark: SparkSession) -> bool:
    return spark.sparkContext.getConf().get("spark.io.encryption.enabled", "false") == "true"


@final
class HostOpener(BundleFiles):
    """The files of a shipped bundle on this host."""

    def __init__(self, shipped: Shipped) -> None:
        self._shipped = shipped
        self._host = HostFiles()
        self.bundle = Bundle(shipped.manifest, self)

    def bring_from(self, shipped: Shipped) -> None:
        """Brings files from `shipped`, the same bundle shipped again, from now on.

        A worker outlives the job that it was started for, and that job's broadcasts may be gone
        when a later one is the first to need a stage.
        """
        self._shipped = shipped

    def path(self, name: str, listed: Listed) -> Path:
        """As `BundleFiles.path`; brought here when it is asked for first."""
        return self._shipped.path(name, listed, self._host)
