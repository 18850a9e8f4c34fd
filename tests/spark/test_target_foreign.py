"""What is not ours is never replaced: every kind of folder that a wrong `output.path` may name."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kvspark.errors import KvsparkError, OutputError, UsageError
from kvspark.spark.output.target import Target
from tests.spark.publishing import OWNER, ROWS, content_of, publish, target_at, write_rows


def plain(out: Path) -> None:
    write_rows(out / "a.parquet", "foreign")


def by_spark(out: Path) -> None:
    write_rows(out / "part-00000-1a.snappy.parquet", "foreign")
    (out / "_SUCCESS").touch()


def empty_by_spark(out: Path) -> None:
    out.mkdir()
    (out / "_SUCCESS").touch()


def hive(out: Path) -> None:
    write_rows(out / "dt=2026-01-01" / "part-0.parquet", "foreign")


def delta(out: Path) -> None:
    by_spark(out)
    (out / "_delta_log").mkdir()


def delta_of_ours(out: Path) -> None:
    publish(target_at(out), "mine")
    (out / "_delta_log").mkdir()


def iceberg(out: Path) -> None:
    write_rows(out / "data" / "a.parquet", "foreign")
    (out / "metadata").mkdir()
    (out / "metadata" / "v1.metadata.json").write_text("{}")


def hudi(out: Path) -> None:
    plain(out)
    (out / ".hoodie").mkdir()


def files(out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").touch()


def hidden_file(out: Path) -> None:
    out.mkdir()
    (out / ".env").touch()


def csv(out: Path) -> None:
    out.mkdir()
    (out / "part-0.csv").touch()
    (out / "_SUCCESS").touch()


def another_job(out: Path) -> None:
    publish(Target(str(out), owner="other"), "other", owner="other")


def copied(out: Path) -> None:
    publish(target_at(out.with_name("real")), "mine")
    shutil.copytree(out.with_name("real"), out)


def moved(out: Path) -> None:
    publish(target_at(out.with_name("real")), "mine")
    out.with_name("real").rename(out)


def appended(out: Path) -> None:
    publish(target_at(out), "mine")
    write_rows(out / "part-00000-extra.snappy.parquet", "added")


def appended_partition(out: Path) -> None:
    publish(target_at(out), "mine")
    write_rows(out / "dt=1" / "part-0.parquet", "added")


def rewritten(out: Path) -> None:
    publish(target_at(out), "mine")
    write_rows(out / "part-0.parquet", "something of another length, by another hand")


def linked(out: Path) -> None:
    publish(target_at(out), "mine")
    (out / "more").symlink_to(out.parent)


def parent_of_ours(out: Path) -> None:
    publish(target_at(out / "scores"), "mine")


def parent_of_tables(out: Path) -> None:
    write_rows(out / "customers" / "a.parquet", "foreign")


def forged(out: Path) -> None:
    plain(out)
    (out / "_kvspark").mkdir()
    (out / "_kvspark" / "run.json").write_text('{"format": 1, "run_id": "x"}')


KINDS: dict[Callable[[Path], None], str] = {
    plain: r"a table \(1 \.parquet file\)",
    by_spark: r"a table that Spark wrote \(1 \.parquet",
    empty_by_spark: r"a table that Spark wrote \(_SUCCESS\)",
    hive: r"a table in Hive folders \(dt=2026-01-01\)",
    delta: r"a Delta Lake table \(_delta_log\)",
    delta_of_ours: r"a Delta Lake table \(_delta_log\)",
    iceberg: r"an Apache Iceberg table \(metadata/v1\.metadata\.json\)",
    hudi: r"an Apache Hudi table \(\.hoodie\)",
    files: r"a folder with files of somebody \(thesis\.tex\)",
    hidden_file: r"a folder with files of somebody \(\.env\)",
    csv: r"a table that Spark wrote \(1 \.csv file\)",
    another_job: r"the output of another job \(its report says run\.name other\)",
    copied: r"an output that was published as .*/real and moved or copied here",
    moved: r"an output that was published as .*/real and moved or copied here",
    appended: r"with files that no run wrote \(part-00000-extra\.snappy\.parquet\)",
    appended_partition: r"with files that no run wrote \(dt=1/part-0\.parquet\)",
    rewritten: r"with files that no run wrote \(part-0\.parquet\)",
    linked: r"with files that no run wrote \(more\)",
    parent_of_ours: r"a folder that holds an output of kvspark in scores",
    parent_of_tables: r"a folder that holds a table in customers",
    forged: r"a table \(1 \.parquet file\)",
}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_what_is_not_ours_is_refused_by_what_it_looks_like(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    make(out)
    before = tree(tmp_path)
    with pytest.raises(OutputError, match=KINDS[make]) as caught:
        target_at(out)
    assert caught.value.exit_code == 73
    assert "output.overwrite: true" in caught.value.line()
    assert tree(tmp_path) == before


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
def test_what_is_overwritten_is_kept_beside_it_for_good(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    make(out)
    before = tree(out)
    target = target_at(out, overwrite=True, keep=0)
    for night in ("first", "second", "third"):
        publish(target, night)
    assert content_of(out) == "third"
    (aside,) = [item for item in tmp_path.iterdir() if item.name.startswith("_replaced-out-")]
    assert tree(aside) == before
    assert [version.path for version in target.versions()] == [aside]


@pytest.mark.parametrize("make", [appended, another_job, plain], ids=lambda make: make.__name__)
def test_what_comes_while_a_run_computes_is_refused_before_the_swap(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    out = tmp_path / "out"
    target = target_at(out)
    make(out)
    before = tree(out)
    with pytest.raises(OutputError, match="it is as it was and nothing was published"):
        publish(target, "new")
    assert tree(out) == before
    assert not target.is_published


def test_what_comes_between_the_last_look_and_the_swap_is_kept(tmp_path: Path) -> None:
    from kvspark.spark.output.exchange import exchange

    out = tmp_path / "out"

    def somebody_is_faster(left: Path, right: Path) -> bool:
        write_rows(out / "late.parquet", "late")
        return exchange(left, right)

    publish(target_at(out), "old")
    target = Target(str(out), owner=OWNER, keep=0, exchange=somebody_is_faster)
    publish(target, "new")
    assert content_of(out) == "new"
    (aside,) = [item for item in tmp_path.iterdir() if item.name.startswith("_replaced-out-")]
    assert (aside / "late.parquet").exists()


def test_a_kept_output_to_which_somebody_added_files_is_not_deleted(tmp_path: Path) -> None:
    out = tmp_path / "out"
    target = target_at(out)
    publish(target, "first")
    publish(target, "second")
    (version,) = target.versions()
    (version.path / "notes.txt").write_text("mine")
    publish(target, "third")
    assert [path.read_text() for path in tmp_path.glob("_replaced-out-*/notes.txt")] == ["mine"]


def test_an_output_without_a_list_of_files_is_ours_by_their_number_and_bytes(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    publish(target_at(out), "mine")
    (out / "_kvspark" / "files.json").unlink()
    report = json.loads((out / "_kvspark" / "run.json").read_text())
    report["output_bytes"] = sum(part.stat().st_size for part in out.glob("part-*"))
    (out / "_kvspark" / "run.json").write_text(json.dumps(report))
    target_at(out)
    write_rows(out / "part-9.parquet", "added")
    with pytest.raises(OutputError, match="3 part files, and its report counts 2"):
        target_at(out)


def test_marks_and_checksums_of_readers_are_nobodys_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish(target_at(out), "mine")
    for name in (".part-0.parquet.crc", "_metadata", "_common_metadata"):
        (out / name).touch()
    (out / "part-1.parquet").unlink()  # nothing of it can be lost any more
    publish(target_at(out), "next")
    assert content_of(out) == "next"


@pytest.mark.parametrize("form", ["{}/", "{}/.", "{}//", "{}/x/.."])
def test_one_folder_has_many_names(tmp_path: Path, form: str) -> None:
    publish(target_at(tmp_path / "out"), "mine")
    publish(Target(form.format(tmp_path / "out"), owner=OWNER), "next")
    assert content_of(tmp_path / "out") == "next"


@pytest.mark.parametrize("place", [".", "..", "model", "model/.."])
def test_what_the_job_needs_is_never_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "here" / "model").mkdir(parents=True)
    (tmp_path / "here" / "model" / "manifest.json").touch()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UsageError, match="would be moved away with it"):
        Target(place, needed=[tmp_path / "here" / "model" / "manifest.json"], overwrite=True)


def test_an_input_by_another_name_is_the_input(tmp_path: Path) -> None:
    write_rows(tmp_path / "in" / "a.parquet", "rows")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    for given in (tmp_path / "link", tmp_path / "link" / "a.parquet"):
        with pytest.raises(UsageError, match="overlap"):
            Target(str(tmp_path / "in"), inputs=[given], overwrite=True)


def test_a_hard_link_of_a_folder_is_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that does not tell cases apart: `IN` is `in`."""
    write_rows(tmp_path / "in" / "a.parquet", "rows")
    real = os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, **how: real(str(path).replace("/IN", "/in"), **how)
    )
    with pytest.raises(UsageError, match="overlap"):
        Target(str(tmp_path / "IN"), inputs=[tmp_path / "in"], overwrite=True)


@pytest.mark.parametrize("make", [delta, hudi, iceberg, another_job], ids=lambda m: m.__name__)
def test_an_output_inside_another_table_is_refused(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "table")
    with pytest.raises(KvsparkError, match="lies inside"):
        Target(str(tmp_path / "table" / "deep" / "out"), overwrite=True)


def test_readers_of_the_parent_do_not_see_what_was_replaced(tmp_path: Path) -> None:
    import pyarrow.dataset as ds

    out = tmp_path / "dt=2026-01-01"
    plain(out)
    target = target_at(out, overwrite=True, keep=2)
    for night in ("first", "second", "third"):
        publish(target, night)
    rows = ds.dataset(tmp_path, format="parquet", partitioning="hive").to_table()
    assert set(rows["content"].to_pylist()) == {"third"}
    assert rows.num_rows == 2 * ROWS
    assert [v.run_id for v in target.versions()] == ["second", "first", None]
