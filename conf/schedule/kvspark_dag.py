"""An Airflow DAG that scores every night with spark-submit; for Airflow 2 and 3, without a provider.

A task of its own, because SparkSubmitOperator and BashOperator retry whatever failed: an exit code
that trying again cannot change (a wrong conf, a column that is gone, a secret that is refused) ends the
task at once, all others are tried again. The run id is the logical date: a retry and a backfill replace
the same night, and never append to it. A secret is on the cluster's machines, where the conf's
`cache.password_file` says; it is neither an argument nor a Spark setting nor an Airflow variable,
because Airflow stores and shows all that it renders.

    KVSPARK_HOME     the project's folder on the machine that submits
    KVSPARK_MASTER   where Spark runs: yarn, k8s://..., local[*,4]
"""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

try:
    from airflow.sdk import DAG, task
    from airflow.sdk.exceptions import AirflowException, AirflowFailException
except ImportError:  # before Airflow 3.1
    from airflow import DAG
    from airflow.decorators import task
    from airflow.exceptions import AirflowException, AirflowFailException

HOME = Path(os.environ.get("KVSPARK_HOME", "/srv/kvspark"))
MASTER = os.environ.get("KVSPARK_MASTER", "yarn")

FINAL = {
    64: "a flag or a conf key is wrong",
    65: "the input or the model is not what the conf says",
    70: "a bug",
    73: "the output cannot be written or published",
    77: "a secret is missing or was refused",
}
"""Exit codes that are the same the next time. 69 and 75, a signal and Spark's own 1 may pass."""


def command(day: str) -> list[str]:
    """What scores the night of `day`, a date in ISO form."""
    return [
        "spark-submit",
        "--master",
        MASTER,
        "--name",
        "kvspark-score",
        "--properties-file",
        str(HOME / "conf/spark-defaults.conf"),
        "--driver-java-options",
        f"-Dlog4j2.configurationFile=file:{HOME}/conf/log4j2.properties",
        "--py-files",
        str(HOME / "dist/kvspark.zip"),
        str(HOME / "jobs/score.py"),
        str(HOME / "conf/score.yaml"),
        "--run-id",
        day,
    ]


@task(task_id="score")
def score(day: str) -> None:
    """Scores one night.

    Raises:
        AirflowFailException: it failed, and would again; there is no retry.
        AirflowException: it failed, and may not the next time.
    """
    # From the project's folder, which relative paths of the conf start from. Its log is the task's.
    code = subprocess.run(command(day), cwd=HOME, check=False).returncode  # noqa: S603 - a list, without a shell
    if code in FINAL:
        raise AirflowFailException(f"kvspark exited with {code}: {FINAL[code]}; see above")
    if code:
        raise AirflowException(f"kvspark exited with {code}; see above")


with DAG(
    dag_id="kvspark_score",
    description="Score last night's rows; compute only what is new.",
    schedule="15 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    # One run at a time on one output; a second one would exit with 75.
    max_active_runs=1,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(hours=6),
    },
    tags=["kvspark"],
) as dag:
    score("{{ ds }}")
