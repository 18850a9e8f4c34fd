"""Workers whose Python is another one are told in a line, or given the driver's."""

from __future__ import annotations

import site
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import DataFrame, SparkSession

import kvspark
from kvspark.errors import UsageError
from kvspark.infer.model import Model
from kvspark.spark.session.worker_python import CHECKED_KEY, worker_trouble
from tests import worker_daemon
from tests.spark.conftest import ROWS

pytestmark = pytest.mark.spark

Program = Callable[[str], Path]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A Python with all packages of this one but kvspark, unless it is given a version of its own."""

    def made(version: str) -> Path:
        path = [str(Path(pyspark.__file__).parents[2]), *site.getsitepackages()]
        if version:
            (tmp_path / "kvspark").mkdir()
            (tmp_path / "kvspark/__init__.py").write_text(f"__version__ = {version!r}\n")
            path.insert(0, str(tmp_path))
        file = tmp_path / "python"
        # Without `site`, which brings what is installed for editing, not in the sources' folder, and with
        # Spark's own daemon.
        file.write_text(
            "#!/bin/sh\ncd /\n"
            f'[ "$2" != {worker_daemon.__name__} ] || {{ shift 2; set -- -m pyspark.daemon "$@"; }}\n'
            f'PYTHONPATH={":".join(path)} exec {sys.executable} -S "$@"\n'
        )
        file.chmod(0o755)
        return file

    return made


@pytest.fixture
def session(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> Iterator[SparkSession]:
    """The session, whose workers have another Python until the test ends."""
    before = spark.sparkContext.pythonExec
    yield spark
    spark.sparkContext.pythonExec = before
    spark.conf.unset(CHECKED_KEY)


@pytest.mark.parametrize("way", ["score", "udf"])
def test_workers_without_kvspark_are_told_before_a_row_is_scored(
    session: SparkSession, table: DataFrame, mlp: Model, program: Program, way: str
) -> None:
    session.sparkContext.pythonExec = str(program(""))
    with pytest.raises(UsageError) as caught:
        kvspark.score(table, mlp) if way == "score" else kvspark.udf(mlp)
    said = str(caught.value)
    assert f"({sys.executable} on " in said  # the program that the script starts
    assert "has no kvspark and the driver's" in said
    assert f"has kvspark {kvspark.__version__}; set PYSPARK_PYTHON" in said
    assert "\n" not in said


def test_workers_with_another_kvspark_are_told(
    session: SparkSession, table: DataFrame, mlp: Model, program: Program
) -> None:
    session.sparkContext.pythonExec = str(program("0.0.9"))
    with pytest.raises(UsageError, match=r"has kvspark 0\.0\.9 and the driver's"):
        kvspark.score(table, mlp)


def test_workers_whose_program_is_not_there_are_told(
    session: SparkSession, table: DataFrame, mlp: Model
) -> None:
    session.sparkContext.pythonExec = "python-of-nobody"
    with pytest.raises(UsageError, match="workers' Python python-of-nobody is not there; set"):
        kvspark.score(table, mlp)


def test_workers_with_all_of_it_are_looked_at_once_a_session(
    session: SparkSession, table: DataFrame, mlp: Model, program: Program
) -> None:
    path = program(kvspark.__version__)
    # Not the driver's own by its place, and the same by what it has.
    (path.parent / "kvspark/__init__.py").unlink()
    (path.parent / "kvspark").rmdir()
    (path.parent / "kvspark").symlink_to(Path(kvspark.__file__).parent)
    session.sparkContext.pythonExec = str(path)
    assert kvspark.score(table, mlp).count() == ROWS
    assert session.conf.get(CHECKED_KEY) == str(path)
    path.unlink()  # so that another look would fail
    kvspark.score(table, mlp)


def test_where_nobody_names_a_python_workers_on_this_machine_get_the_driver_s(
    session: SparkSession,
    table: DataFrame,
    mlp: Model,
    program: Program,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PYSPARK_PYTHON", raising=False)
    session.sparkContext.pythonExec = str(program(""))
    assert kvspark.score(table, mlp).count() == ROWS
    assert session.sparkContext.pythonExec == sys.executable


def test_on_a_cluster_the_driver_s_own_path_is_looked_at_too(
    session: SparkSession, table: DataFrame, mlp: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session.sparkContext, "master", "yarn")
    session.sparkContext.pythonExec = sys.executable
    kvspark.score(table, mlp)
    assert session.conf.get(CHECKED_KEY) == sys.executable


def test_another_minor_version_is_told_from_what_spark_says() -> None:
    said = (
        "Python in worker has different version: 3.12 than that in driver: 3.11, PySpark cannot run "
        "with different minor versions."
    )
    told = worker_trouble("python3", said)
    assert told is not None
    assert told.startswith("the workers' Python (python3) is 3.12 and the driver's (")
    assert ") is 3.11; set PYSPARK_PYTHON" in told
