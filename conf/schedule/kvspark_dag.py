"""An Airflow DAG that scores every night with spark-submit.

Needs Airflow and its provider apache-airflow-providers-apache-spark, with a connection
`spark_default`. The run id is the logical date: Airflow's retries and a backfill replace the same
night, and never append to it. A secret is on the cluster's machines, where the conf's
`cache.password_file` says; it is neither an argument nor a Spark setting nor an Airflow variable,
because Airflow stores and shows all that it renders.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

from airflow import DAG
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator

HOME = Path("/srv/kvspark")
"""The folder of the project on the machine that submits."""

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
    SparkSubmitOperator(
        task_id="score",
        conn_id="spark_default",
        name="kvspark-score",
        application=str(HOME / "jobs/score.py"),
        py_files=str(HOME / "dist/kvspark.zip"),
        properties_file=str(HOME / "conf/spark-defaults.conf"),
        application_args=[str(HOME / "conf/score.yaml"), "--run-id", "{{ ds }}"],
    )
