"""The archive of Spark's classes: one JVM writes it, the next ones map it, and nothing that is odd is mapped."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kvspark.spark.session.class_archive import archive_options

WHOLE = b"\xa8\xab\x0b\xf0 and what follows"


@pytest.fixture(autouse=True)
def unchosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_SUBMIT_OPTS", raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "kvspark"


def file_of(options: str, name: str) -> Path:
    (given,) = (each for each in options.split() if each.startswith(f"-XX:{name}="))
    return Path(given.partition("=")[2])


def test_a_jvm_writes_what_the_next_one_maps(folder: Path) -> None:
    """With a small Java program of the same JVM in the place of Spark."""
    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin/java") if home else Path(shutil.which("java") or "")
    keytool = java.resolve().with_name("keytool")
    first = archive_options(folder)
    part = file_of(first, "ArchiveClassesAtExit")
    given = [f"-J{option}" for option in first.split()]
    done = subprocess.run([keytool, *given, "-help"], capture_output=True, check=True)
    assert part.exists()
    assert done.stdout == b""
    second = archive_options(folder)
    archive = file_of(second, "SharedArchiveFile")
    assert archive.stat().st_size > 100_000
    assert not part.exists()
    asked = [*second.split(), "-Xshare:on"]  # which ends the JVM where the archive does not fit
    given = [f"-J{option}" for option in asked]
    subprocess.run([keytool, *given, "-help"], capture_output=True, check=True)
    assert archive_options(folder) == second


def test_a_part_that_a_killed_jvm_has_left_is_not_mapped(folder: Path) -> None:
    part = file_of(archive_options(folder), "ArchiveClassesAtExit")
    part.write_bytes(bytes(len(WHOLE)))
    assert "SharedArchiveFile" not in archive_options(folder)
    assert part.exists()  # it may be written to yet
    os.utime(part, (0, 0))
    assert "SharedArchiveFile" not in archive_options(folder)
    assert not part.exists()


def test_an_archive_of_another_build_is_left_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = file_of(archive_options(folder), "ArchiveClassesAtExit")
    part.write_bytes(WHOLE)
    monkeypatch.setattr("pyspark.__version__", "0.0.0")
    assert "SharedArchiveFile" not in archive_options(folder)
    assert part.exists()


def test_a_folder_that_others_may_write_to_is_not_used(folder: Path) -> None:
    file_of(archive_options(folder), "ArchiveClassesAtExit").write_bytes(WHOLE)
    folder.chmod(0o777)
    assert archive_options(folder) == ""


def test_a_folder_with_a_blank_is_not_used(tmp_path: Path) -> None:
    assert archive_options(tmp_path / "a home") == ""


def test_no_folder_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert archive_options(tmp_path / "file" / "kvspark") == ""


def test_an_archive_that_somebody_chose_is_left_to_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARK_SUBMIT_OPTS", "-XX:SharedArchiveFile=/somewhere.jsa")
    assert archive_options(folder) == ""
    assert not folder.exists()
