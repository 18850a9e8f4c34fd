r"""Scores a table: `kvspark score` for spark-submit, with the same arguments and exit codes.

    make dist
    spark-submit --master yarn --properties-file conf/spark-defaults.conf \
        --driver-java-options "-Dlog4j2.configurationFile=file:$PWD/conf/log4j2.properties" \
        --py-files dist/kvspark.zip jobs/score.py conf/score.yaml --run-id 2026-01-01

The machines of the cluster need the packages that kvspark needs, in the Python that
`PYSPARK_PYTHON` names. `--deploy-mode cluster` works too; YARN then reports its own exit code.
"""

from __future__ import annotations

import sys

from kvspark.cli import run


def main() -> None:
    """Exits with the code of `kvspark score` and the arguments of this process."""
    sys.exit(run(["score", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
