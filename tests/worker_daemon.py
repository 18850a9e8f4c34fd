"""What Spark forks the Python workers of a test run from: it has imported before what each of them would import.

A worker that has died, or was idle for a minute, is followed by another one, to which torch and kvspark cost
some seconds of a core. A fork finds them there.
"""

from __future__ import annotations

import gc
from importlib import import_module

OPTION = "-Dspark.python.daemon.module=tests.worker_daemon"
"""Of a JVM in whose PYTHONPATH the repository is."""

IMPORTED = (
    "pandas",
    "pyarrow.pandas_compat",
    "pyarrow.parquet",
    "torch",
    "kvspark.infer.predict.predictor",
    "kvspark.model.run.program",
    "kvspark.model.run.weights",
    "kvspark.spark.scoring.score",
    "kvspark.spark.scoring.udf",
    "kvspark.spark.scoring.worker",
    "kvspark.store.redis.server",
)


def main() -> None:
    """Serves Spark until it closes the pipe."""
    for name in IMPORTED:
        import_module(name)
    from pyspark import daemon

    from kvspark.spark.scoring.worker import forget_zip_finders

    # What a worker imports besides comes from few of the folders of pyspark's zip file.
    forget_zip_finders()
    # A worker collects garbage behind every task, and need not look through what all of them share.
    gc.collect()
    gc.freeze()
    daemon.manager()


if __name__ == "__main__":
    main()
