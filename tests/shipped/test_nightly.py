"""The shipped conf, DAG and crontab, run as they stand, with a real model and every lock on."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kvspark import cli
from kvspark.cache.namespace import purge
from kvspark.cache.seal.keyring import write_keys
from kvspark.config.sealing import KEY_ENV
from kvspark.demo.project.project import make_project
from kvspark.infer.model import Model
from kvspark.store.files.cold import ColdStore
from tests.redis_server import RedisAddress, running_redis
from tests.shipped.conftest import ROOT, ROWS, bare_environment, blocks, inline

DAY = "2026-01-01"
PASSWORDS = {"kvspark": "first", "kvspark-purge": "second", "kvspark-doctor": "third"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisAddress]:
    """redis.conf and users.acl as they are shipped, with a password for each user."""
    users = tmp_path_factory.mktemp("users") / "users.acl"
    text = (ROOT / "conf/redis/users.acl").read_text()
    for user, password in PASSWORDS.items():
        # As conf/redis/README.md says.
        digest = sha256(password.encode()).hexdigest()
        text = text.replace(f"user {user} on resetpass", f"user {user} on #{digest}")
    users.write_text(text)
    conf = str(ROOT / "conf/redis/redis.conf")
    # What redis.conf leaves to the file that includes it.
    own = ("--maxmemory", "256mb")
    with running_redis("--include", conf, "--aclfile", str(users), *own) as running:
        yield running


@pytest.fixture(scope="module")
def secured(project: Path, server: RedisAddress) -> dict[str, str]:
    """Where the server and the secrets are, by environment: the conf stays as it is shipped."""
    write_keys(project / "sealing", is_primary=False)
    for user, password in PASSWORDS.items():
        (project / user).write_text(password)
        (project / user).chmod(0o600)
    return {
        "KVSPARK__CACHE__URL": server.url,
        "KVSPARK__CACHE__USERNAME": "kvspark",
        "KVSPARK__CACHE__PASSWORD_FILE": str(project / "kvspark"),
        "KVSPARK__CACHE__SEALING__KEY_FILE": str(project / "sealing"),
        "KVSPARK__CACHE__TIMEOUT_MS": "20000",
        "KVSPARK__RUN__REQUIRE_CACHE": "true",
    }


# ---------------------------------------------------------------- the DAG, without Airflow


KERNELS = ("ATEN_", "DNNL_", "MKL_", "ONEDNN_", "OPENBLAS_")
"""How variables begin that pick kernels."""


class AirflowException(Exception):  # noqa: N818 - Airflow's name
    """Airflow tries again."""


class AirflowFailException(AirflowException):
    """Airflow does not."""


class Dag:
    """Remembers how it was made, and the calls of tasks in it."""

    made: Dag

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.calls: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def __enter__(self) -> Dag:
        Dag.made = self
        return self

    def __exit__(self, *_: object) -> None:
        return


def task(task_id: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        return lambda *values: Dag.made.calls.append((function, values))

    return decorate


SHIPPED_DAG = ROOT / "conf/schedule/kvspark_dag.py"


def loaded_dag(
    monkeypatch: pytest.MonkeyPatch, home: Path, file: Path = SHIPPED_DAG, *, has_sdk: bool = True
) -> Dag:
    """The DAG as Airflow 3 (`has_sdk`) or 2 loads it."""
    errors = {"AirflowException": AirflowException, "AirflowFailException": AirflowFailException}
    modules: dict[str, dict[str, Any]] = {
        "airflow": {"DAG": Dag},
        "airflow.exceptions": errors,
        "airflow.decorators": {"task": task},
        "airflow.sdk": {"DAG": Dag, "task": task} if has_sdk else {},
        "airflow.sdk.exceptions": errors if has_sdk else {},
    }
    for name, values in modules.items():
        module = types.ModuleType(name)
        vars(module).update(values)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("KVSPARK_HOME", str(home))
    monkeypatch.setenv("KVSPARK_MASTER", "local[2,4]")
    runpy.run_path(str(file))
    return Dag.made


def spark_submit_that(code: int, folder: Path) -> dict[str, str]:
    """An environment whose spark-submit writes its arguments down and exits with `code`."""
    program = folder / "spark-submit"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$PWD" "$@" > {folder}/said\nexit {code}\n')
    program.chmod(0o755)
    return bare_environment(PATH=f"{folder}:/usr/bin:/bin")


@pytest.fixture(scope="module")
def dag_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The DAG that is shipped, and the one that `kvspark init` writes."""
    home = tmp_path_factory.mktemp("started")
    make_project(home)
    return {"shipped": SHIPPED_DAG, "init": home / "dag.py"}


@pytest.mark.parametrize("which", ["shipped", "init"])
@pytest.mark.parametrize(
    ("code", "raised"),
    [
        *((code, AirflowFailException) for code in (64, 65, 70, 73, 77)),
        *((code, AirflowException) for code in (1, 69, 75, 130, 137, 143)),
    ],
)
def test_a_dag_tries_again_only_what_may_pass(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    dag_files: dict[str, Path],
    which: str,
    code: int,
    raised: type[Exception],
) -> None:
    dag = loaded_dag(monkeypatch, tmp_path, dag_files[which])
    ((function, values),) = dag.calls
    assert values == ("{{ ds }}",)
    monkeypatch.setenv("PATH", spark_submit_that(code, tmp_path)["PATH"])
    with pytest.raises(AirflowException, match=f"exited with {code}") as caught:
        function(DAY)
    assert type(caught.value) is raised
    cwd, *arguments = (tmp_path / "said").read_text().splitlines()
    assert cwd == str(tmp_path)
    assert arguments[-3:] == [f"{tmp_path}/conf/score.yaml", "--run-id", DAY]


@pytest.mark.parametrize("which", ["shipped", "init"])
def test_a_dag_retries_for_an_hour_and_runs_once_at_a_time(
    monkeypatch: pytest.MonkeyPatch, project: Path, dag_files: dict[str, Path], which: str
) -> None:
    options = loaded_dag(monkeypatch, project, dag_files[which], has_sdk=False).options
    assert options["max_active_runs"] == 1
    assert options["default_args"]["retries"] == 2
    assert not options["catchup"]


def test_what_the_conf_tells_to_type_is_what_the_dag_does() -> None:
    """The comments of spark-defaults.conf and of jobs/score.py name the DAG's options and no others."""
    dag = set(re.findall(r"--[a-z-]+", SHIPPED_DAG.read_text())) - {"--name"}
    job = (ROOT / "jobs/score.py").read_text().split("make dist\n")[1].partition("\n\n")[0]
    assert set(re.findall(r"--[a-z-]+", job)) == dag
    defaults = (ROOT / "conf/spark-defaults.conf").read_text().partition("...")[0]
    assert set(re.findall(r"--[a-z-]+", defaults)) <= dag


# ---------------------------------------------------------------- two nights


def expected(project: Path) -> list[int]:
    texts = pq.read_table(project / "data/glosses", columns=["text"])["text"].to_pylist()
    model = Model.load(project / "models/glosses")
    labels: list[int] = model.predict({"text": texts}, threads=1)["label"].tolist()
    return labels


def report(project: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((project / "scored/glosses/_kvspark/run.json").read_text())
    return said


def computed(said: dict[str, Any]) -> dict[str, int]:
    return {name: stage["computed"] for name, stage in said["stages"].items()}


def cron_lines(table: Path) -> tuple[dict[str, str], list[str]]:
    """The variables and the commands of a crontab, as cron reads them."""
    variables, commands = {}, []
    for line in table.read_text().splitlines():
        if found := re.match(r"(\w+)=(.*)", line):
            variables[found[1]] = found[2]
        elif line and not line.startswith("#"):
            commands.append(line.split(None, 5)[5].replace("\\%", "%"))
    return variables, commands


@pytest.fixture(scope="module")
def night(
    project: Path,
    secured: dict[str, str],
    server: RedisAddress,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """The report of a night that the DAG's task has scored, by spark-submit with every lock on."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("PYTHONPATH", "PYSPARK_PYTHON", KEY_ENV):
            patched.delenv(name, raising=False)
        for name, value in {**bare_environment(), **secured}.items():
            patched.setenv(name, value)
        patched.chdir(tmp_path_factory.mktemp("elsewhere"))  # a scheduler is started from anywhere
        ((function, _),) = loaded_dag(patched, project).calls
        function(DAY)
    return report(project)


@pytest.mark.spark
@pytest.mark.redis
@pytest.mark.slow
def test_the_dag_scores_a_night_with_every_lock_on(project: Path, night: dict[str, Any]) -> None:
    assert (night["run_id"], night["rows_out"], night["degraded"]) == (DAY, ROWS, [])
    assert computed(night)["trunk"] == ROWS
    given = pq.read_table(project / "data/glosses")
    order = given.append_column("expected", [expected(project)]).sort_by("id")
    scored = pq.read_table(project / "scored/glosses").sort_by("id")
    assert scored["predicted_label"].to_pylist() == order["expected"].to_pylist()


@pytest.mark.spark
@pytest.mark.redis
@pytest.mark.slow
def test_the_crontab_scores_the_next_night_and_finds_all_of_it(
    project: Path, secured: dict[str, str], night: dict[str, Any], tmp_path: Path
) -> None:
    variables, commands = cron_lines(project / "conf/schedule/crontab")
    assert variables.pop("SHELL") == "/bin/bash"
    # cron's own, the table's, and what an administrator adds to it; nothing of this process.
    cron = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", **variables, **secured}
    # What all processes of a machine have: other kernels give other bits, whose keys are others.
    cron |= {name: os.environ[name] for name in os.environ if name.startswith(KERNELS)}
    cron["KVSPARK_HOME"] = str(project)
    for line in commands:
        done = subprocess.run(
            ["/bin/bash", "-c", line],
            cwd=tmp_path,
            env=cron,
            capture_output=True,
            text=True,
            check=False,
        )
        (log,) = (project / "logs").glob("score-*.log")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), log.read_text()
    said = report(project)
    assert said["run_id"] in log.name
    assert computed(said) == dict.fromkeys(computed(night), 0)


# ---------------------------------------------------------------- all other commands of the docs

SECRETS = "/run/secrets"
PAGE = "docs/operations.md"
COMMANDS = [
    line
    for section in ("Rotate keys", "Erase", "Check and diagnose", "Warm")
    for block in [
        *blocks(PAGE, section, "bash"),
        *re.findall(r"`(kvspark warm [^`]*)`", inline(PAGE, section)),
    ]
    for line in block.splitlines()
]


@pytest.fixture(scope="module")
def made(project: Path, secured: dict[str, str]) -> Path:
    """The project, with what the commands name beside the conf; returns where the secrets are."""
    (project / "models/old").symlink_to("glosses")
    text = pq.read_table(project / "data/glosses")["text"][0].as_py()
    (project / "rows.json").write_text(json.dumps({"text": text, "id": "a"}) + "\n")
    (project / "ids.txt").write_text("a\n")
    secrets = project / "secrets"
    secrets.mkdir()
    (project / "kvspark-doctor").rename(secrets / "doctor")
    return secrets


@pytest.mark.redis
@pytest.mark.parametrize("line", COMMANDS)
def test_a_documented_command_runs_as_it_stands(
    project: Path,
    secured: dict[str, str],
    made: Path,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    # Nobody else inserts entries or copies them.
    monkeypatch.setattr(purge, "SETTLE_S", 0.0)
    monkeypatch.setattr(ColdStore, "remembered_s", 0.0)
    for name, value in secured.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("KVSPARK__CACHE__SUBJECT", "id")
    monkeypatch.setenv("KVSPARK__CACHE__BUDGET_BYTES", str(100 << 20))
    monkeypatch.setenv("KVSPARK__CACHE__COLD", (project / "cold").as_uri())
    if " purge " in line:
        monkeypatch.setenv("KVSPARK__CACHE__USERNAME", "kvspark-purge")
        monkeypatch.setenv("KVSPARK__CACHE__PASSWORD_FILE", str(project / "kvspark-purge"))
    program, *arguments = shlex.split(line.replace(SECRETS, str(made)), comments=True)
    assert program == "kvspark"
    code = cli.run(arguments)
    said = capsys.readouterr()
    assert code == 0, said.out + said.err
    # Purge and the start of Spark take a while, and say so.
    log = [text for text in said.err.splitlines() if " INFO " not in text]
    assert not log
