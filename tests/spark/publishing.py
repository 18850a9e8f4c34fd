"""Publishing and rolling back without Spark, here or in a process that is killed on the way."""

from __future__ import annotations

import secrets
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from kvspark.spark.output.appended import add_to
from kvspark.spark.output.exchange import exchange
from kvspark.spark.output.target import Target
from kvspark.spark.runs.run_report import REPORT_FOLDER, RunReport
from kvspark.stats import NOTHING
from tests.killed_process import killed_at

OWNER = "small"
FILES = ("part-0.parquet", "part-1.parquet", "_kvspark/quarantine/part-00000.parquet")
ROWS = 10


def never(left: Path, right: Path) -> bool:
    """A system that cannot swap two folders."""
    del left, right
    return False


def target_at(
    path: Path,
    how: str = "exchange",
    *,
    owner: str = OWNER,
    overwrite: bool = False,
    keep: int = 1,
) -> Target:
    """The target of the job `owner`."""
    swap = exchange if how == "exchange" else never
    return Target(str(path), owner=owner, overwrite=overwrite, keep=keep, exchange=swap)


def report_of(path: Path, run_id: str, owner: str = OWNER) -> RunReport:
    """What a run says of an output at `path`."""
    return RunReport(
        run_id=run_id,
        name=owner,
        logical_date=None,
        started_at="2026-01-01T00:00:00+00:00",
        model="m",
        fingerprint="0" * 64,
        output=str(path),
        inputs=("in",),
        rows_in=ROWS,
        rows_out=ROWS,
        input_files=1,
        empty_input_files=0,
        output_files=2,
        output_bytes=1,
        stages=(),
        stats=NOTHING,
        cache=None,
        seconds={},
        seconds_saved=None,
    )


def write_rows(path: Path, content: str) -> None:
    """A Parquet file of `ROWS` rows that all say `content`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"content": [content] * ROWS}), path)


def publish(target: Target, content: str, *, owner: str = OWNER) -> None:
    """One run, whose id is what its rows say."""
    with target.lock(content):
        target.recover()
        staged = target.stage(content)
        for name in FILES:
            write_rows(staged / name, content)
        (staged / "_SUCCESS").touch()
        report_of(target.path, content, owner).write(staged / REPORT_FOLDER)
        target.publish(staged)


def append(target: Target, content: str) -> None:
    """One run that adds its rows, which say its id, to what is there."""
    with target.lock(content):
        target.recover()
        staged = target.stage(content)
        for number in range(2):
            write_rows(staged / f"part-{number}-{secrets.token_hex(4)}.parquet", content)
        report_of(target.path, content).write(staged / REPORT_FOLDER)
        add_to(target.path, staged, content)
        target.publish(staged)


def rows_of(folder: Path) -> dict[str, int]:
    """How many rows in `folder` say what."""
    said = ds.dataset(folder, format="parquet").to_table()["content"].to_pylist()
    return dict(Counter(said))


def roll_back(target: Target) -> None:
    """Back to what was replaced last."""
    with target.lock("rollback"):
        target.recover()
        target.restore(target.versions()[0])


def content_of(folder: Path) -> str | None:
    """What all rows in `folder` say; None if it does not exist. Fails if they are not all there."""
    if not folder.exists():
        return None
    files = sorted(path for path in folder.rglob("*.parquet") if path.is_file())
    found = [ds.dataset(file, format="parquet").to_table()["content"].to_pylist() for file in files]
    said = {text for rows in found for text in rows}
    assert len(said) == 1
    assert [len(rows) for rows in found] == [ROWS] * len(FILES)
    return said.pop()


def killed(action: str, path: Path, how: str, content: str, fault: str) -> None:
    """Runs `action` in a process that is killed at `fault`."""
    killed_at(fault, acted, action, path, how, content)


def acted(action: str, path: Path, how: str, content: str) -> None:
    """Publishes, appends or rolls back."""
    target = target_at(path, how, overwrite=True)
    if action == "publish":
        publish(target, content)
    elif action == "append":
        append(target, content)
    else:
        roll_back(target)
