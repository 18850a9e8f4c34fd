"""Whether a session is one of Spark Connect."""

from __future__ import annotations

from pyspark.sql import SparkSession


def is_connect(spark: SparkSession) -> bool:
    """True for a session of Spark Connect, which has no SparkContext."""
    # Its class cannot be imported without grpc.
    return type(spark).__module__.startswith("pyspark.sql.connect")
