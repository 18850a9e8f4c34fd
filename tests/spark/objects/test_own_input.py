"""A job whose input and output are one place under two names: it would replace what it reads."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.utils.config import Config

from kvspark.config.job import JobConfig
from kvspark.errors import DataError, UsageError
from kvspark.infer.model import Model
from kvspark.spark.jobs.job import run_score
from kvspark.table.iceberg.target import IcebergTarget
from kvspark.table.objects.storage import Storage
from kvspark.table.place.opening import open_objects
from tests.azure_double import ACCOUNT
from tests.hdfs_server import HdfsServer
from tests.object_double import ObjectDouble
from tests.object_server import LAKE, S3Address
from tests.spark.small_jobs import job, write_night

pytestmark = pytest.mark.spark

SPELLINGS = ["hdfs-host", "hdfs-proxy", "hdfs-nameservice", "azure-scheme"]


@pytest.fixture(params=SPELLINGS)
def twice(request: pytest.FixtureRequest) -> tuple[str, str, dict[str, str]]:
    """A folder's URL, another of the same folder, and the settings that the other takes."""
    name, server = secrets.token_hex(4), request.getfixturevalue(request.param.partition("-")[0])
    if isinstance(server, ObjectDouble):
        container = server.url.removeprefix("az://")
        other = f"abfss://{container}@{ACCOUNT}.dfs.core.windows.net/{name}/rows"
        return f"{server.url}/{name}/rows", other, {}
    assert isinstance(server, HdfsServer)
    nameservice = {
        "dfs.nameservices": "bank",
        "dfs.ha.namenodes.bank": "one",
        "dfs.namenode.rpc-address.bank.one": f"localhost:{server.port}",
    }
    root, settings = {
        "hdfs-host": (f"hdfs://localhost:{server.proxy.port}", {}),
        "hdfs-proxy": (f"hdfs://127.0.0.1:{server.port}", {}),
        "hdfs-nameservice": ("hdfs://bank", nameservice),
    }[request.param]
    return f"{server.url}/{name}/rows", f"{root}/{name}/rows", settings


@pytest.fixture
def night(tmp_path: Path, mlp: Model) -> Path:
    mlp.save(tmp_path / "model")
    return write_night(tmp_path / "night", files=1)


def config(folder: Path, url: str, other: str, settings: dict[str, str]) -> JobConfig:
    there: dict[str, Any] = {"paths": [other], "storage": settings}
    return job(folder, folder / "night", input=there, output={"path": url, "overwrite": True})


@pytest.mark.parametrize(("below", "other_below"), [("", ""), ("/dt=1", ""), ("", "/dt=1")])
def test_a_run_never_replaces_its_input_under_another_name(
    night: Path, twice: tuple[str, str, dict[str, str]], below: str, other_below: str
) -> None:
    url, other, settings = twice
    there = open_objects(Storage(url))
    there.put("dt=1/0.parquet", (night / "0.parquet").read_bytes())
    before = there.stat("dt=1/0.parquet")
    asked = config(night.parent, f"{url}{below}", f"{other}{other_below}", settings)
    with pytest.raises(UsageError, match="are one place under two names") as told:
        run_score(asked)
    assert "\n" not in str(told.value)
    assert there.stat("dt=1/0.parquet") == before
    assert there.get("_kvspark/pointer.json") is None


def test_a_run_never_replaces_its_input_under_another_name_of_the_catalog(
    night: Path, lake: S3Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = f"PYICEBERG_CATALOG__{LAKE.upper()}__"
    for name, value in lake.environment.items():
        if name.startswith(own):
            monkeypatch.setenv(name.replace(own, "PYICEBERG_CATALOG__ALIAS__"), value)
    rows = pq.read_table(night)
    table = f"n{secrets.token_hex(4)}.scored"
    target = IcebergTarget(f"iceberg:{LAKE}/{table}")
    store = {"s3.endpoint": lake.endpoint, "s3.region": "us-east-1"}
    known = cast("dict[str, str]", Config().get_catalog_config(LAKE))
    catalog = load_catalog(LAKE, **{**known, **store})
    catalog.create_namespace(target.identifier[:-1])
    made = catalog.create_table(target.identifier, rows.schema)
    made.append(rows)
    there = {"format": "iceberg", "paths": [target.url]}
    output = {"format": "iceberg", "path": f"iceberg:alias/{table}", "overwrite": True}
    with pytest.raises(UsageError, match="are one place under two names"):
        run_score(job(night.parent, night, input=there, output=output))
    made.refresh()
    assert made.scan().to_arrow().num_rows == len(rows)


def test_a_catalog_of_the_input_that_cannot_be_opened_is_a_fault_of_the_input(
    night: Path, tmp_path: Path
) -> None:
    catalog = {
        "type": "sql",
        "uri": f"sqlite:///{tmp_path}/lake.db",
        "warehouse": f"file://{tmp_path}",
    }
    there = {"format": "iceberg", "paths": ["iceberg:lake/ns.rows"], "catalog": {"type": "sqll"}}
    output = {"format": "iceberg", "path": "iceberg:lake/ns.scored", "catalog": catalog}
    with pytest.raises(DataError, match=r"^input iceberg:lake/ns\.rows: .*sqll") as told:
        run_score(job(night.parent, night, input=there, output=output))
    assert "\n" not in str(told.value)
    assert told.value.exit_code == 65
