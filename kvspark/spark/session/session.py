"""The Spark session of a job."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from kvspark.config.job import SparkConfig
from kvspark.config.section.secret import holds_secret
from kvspark.errors import UsageError
from kvspark.spark.session.class_archive import archive_options
from kvspark.spark.session.interrupt import handler_kept
from kvspark.spark.session.java import check_java

log = logging.getLogger(__name__)

# local[*] alone fails a job at the first failed task: the second number is the attempts of a task.
LOCAL_MASTER = "local[*,4]"

# Spark shows its settings in its user interface and event log, all but those whose name this
# matches. Spark's own pattern lets a URL with a password, .auth and .credential pass.
REDACTION = "(?i)secret|password|passw|token|access[._-]?key|api[._-]?key|auth|credential|dsn|kek|redis.*url"

_DEFAULTS = {
    # Without it a worker that dies of a segmentation fault leaves no stack.
    "spark.python.worker.faulthandler.enabled": "true",
    "spark.sql.execution.pyspark.udf.faulthandler.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # A fallback to rows that are pickled one by one turns NaN into null and is slow.
    "spark.sql.execution.arrow.pyspark.fallback.enabled": "false",
    "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
    "spark.redaction.regex": REDACTION,
}
_LOCAL_DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
_JAVA_OPTIONS = "spark.driver.extraJavaOptions"
_LOG_CONF = "log4j2.properties"


def open_session(config: SparkConfig, *, name: str) -> SparkSession:
    """The session that runs already, or a new one of `config` that is called `name`.

    The master is that of the conf, else spark-submit's, else every core of this machine.

    Raises:
        UsageError: a setting looks like a secret, or there is no Java that Spark runs on.
    """
    _quiet_errors()
    running = SparkSession.getActiveSession()
    if running is not None:
        check_settings(dict(running.sparkContext.getConf().getAll()))
        return running
    check_settings(config.conf)
    master = master_of(config)
    check_java(master)
    settings = _DEFAULTS if master is None else {**_DEFAULTS, "spark.master": master}
    if master is not None and master.startswith("local"):
        settings = {**settings, **_LOCAL_DEFAULTS, **_java_options(config)}
        # Spark starts whatever `python3` is on PATH otherwise, which may not have kvspark.
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # It takes seconds, in which nothing else would be said.
    log.info("start: Spark, master %s", master or "of spark-submit")
    builder = SparkSession.builder.appName(config.app_name or name)
    for key, value in {**settings, **config.conf}.items():
        builder = builder.config(key, value)
    with handler_kept():
        session = builder.getOrCreate()
    _quiet_accumulators(session)
    check_settings(dict(session.sparkContext.getConf().getAll()))
    return session


def check_settings(settings: Mapping[str, str]) -> None:
    """Does nothing if no setting gives a secret away.

    Raises:
        UsageError: one does; names the setting, never its value.
    """
    for key, value in settings.items():
        is_ours = key.startswith(
            ("spark.kvspark.", "spark.executorEnv.", "spark.yarn.appMasterEnv.")
        )
        if is_ours and holds_secret(key, value):
            raise UsageError(
                f"Spark setting {key} looks like a secret, and Spark shows its settings in its "
                "user interface and event log; give it by environment variable or file"
            )


def master_of(config: SparkConfig) -> str | None:
    """The master to ask for; None where spark-submit started us and has it already."""
    if config.master is None and "PYSPARK_GATEWAY_PORT" in os.environ:
        return None
    return config.master or LOCAL_MASTER


def _quiet_errors() -> None:
    """Keeps pyspark from printing errors of SQL as JSON, with plans and with what a row holds."""
    if not logging.getLogger("kvspark").isEnabledFor(logging.DEBUG):
        for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
            PySparkLogger.getLogger(name).disabled = True


def _quiet_accumulators(session: SparkSession) -> None:
    """Keeps pyspark from printing a traceback where the JVM that sends it counts dies: the run says so in a line."""
    server = getattr(session.sparkContext, "_accumulatorServer", None)
    if server is not None:
        server.handle_error = _uncounted


def _uncounted(*request: object) -> None:
    del request
    log.debug("counts did not arrive", exc_info=True)  # noqa: LOG014 - socketserver calls it while it handles one


def _java_options(config: SparkConfig) -> dict[str, str]:
    """The setting with the options of a local Spark's JVM, unless the conf has its own."""
    if _JAVA_OPTIONS in config.conf:
        return {}
    archive = archive_options() if config.class_archive else ""
    options = " ".join(each for each in (_quiet_log(), archive) if each)
    return {_JAVA_OPTIONS: options} if options else {}


def _quiet_log() -> str:
    """The option that makes a local Spark say nothing, unless somebody set up its log."""
    own = os.environ.get("SPARK_CONF_DIR")
    quiet = Path(__file__).with_name(_LOG_CONF)
    is_set_up = own and Path(own, _LOG_CONF).exists()
    if is_set_up or not quiet.exists():  # inside a zip, Java could not read it
        return ""
    return f"-Dlog4j2.configurationFile={quiet.as_uri()}"
