"""What every test may ask for: one Spark session for each process of a run, and Hypothesis profiles."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from pyspark.sql import SparkSession

from kvspark.config.job import SparkConfig
from kvspark.config.sealing import KEY_ENV
from kvspark.spark.session.session import open_session
from tests import worker_daemon
from tests.class_archive import java_options
from tests.sealing_keys import TEST_KEYS

pytest_plugins = ["tests.object_fixtures", "tests.store_fixtures"]

ROOT = Path(__file__).parents[1]

# Entries are sealed wherever a test does not say otherwise, in workers and subprocesses too.
os.environ[KEY_ENV] = TEST_KEYS

# Each JVM here lives for seconds, most of which its second compiler takes: starting a session and 24
# small jobs took 41 s of its CPU, and 21 with these. A session and three small jobs took 14.1 s, and
# 7.0 with its classes from an archive.
if "SPARK_SUBMIT_OPTS" not in os.environ:
    own = java_options("-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    os.environ["SPARK_SUBMIT_OPTS"] = f"{own} {worker_daemon.OPTION}"
    # Where the daemon is found, in whatever folder a process of Spark runs.
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)

# Most processes of a test run live for seconds, and without these files each would compile kvspark and the
# tests again: importing what a job imports took 4.3 s of CPU instead of 3.7.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Tests run in more processes than there are cores, and a thread of torch that spins while it waits takes
# time from another test: small models were trained and exported in 15.6 s of CPU instead of 26.0.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

hypothesis.settings.register_profile("dev", max_examples=20, deadline=None)
hypothesis.settings.register_profile(
    "ci", max_examples=200, deadline=None, derandomize=True, print_blob=True
)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# local[2,4]: two workers at a time, four attempts of a task.
SPARK = SparkConfig(
    master="local[2,4]",
    app_name="kvspark-tests",
    conf={
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.memory": "1g",
    },
)


def pytest_configure(config: pytest.Config) -> None:
    """Lets one warning pass that pyspark causes: it leaves the sockets of results to the collector."""
    config.addinivalue_line(
        "filterwarnings",
        "ignore:Exception ignored in. <socket.socket fd:pytest.PytestUnraisableExceptionWarning",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first: of two processes that share them, none is left alone with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    spark = {item.path for item in items if item.get_closest_marker("spark") is not None}
    items.sort(key=lambda item: (item.path not in slow, item.path not in spark))


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    """The one session of a test run; nobody but this fixture stops it."""
    session = open_session(SPARK, name="kvspark-tests")
    yield session
    session.stop()


@pytest.fixture(scope="module")
def free_entries() -> Iterator[None]:
    """Entries that cost nothing, so that small models are cut where large ones are."""
    from kvspark.model.torch import candidates

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "TRUNK_SHARE", 0.0)
        patch.setattr(candidates, "ENTRY_S", 0.0)
        patch.setattr(candidates, "ENTRY_BYTES_PER_S", float("inf"))
        yield
