"""Secrets are named, never written out."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from kvspark.config.section.secret import MAX_SECRET_BYTES, has_password, resolve_secret
from kvspark.errors import SecretError, UsageError


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(b"s3cret\n")
    path.chmod(0o600)
    return path


def test_nothing_named_is_no_secret() -> None:
    assert resolve_secret() is None


def test_a_secret_comes_from_the_environment() -> None:
    assert resolve_secret(env="PW", environ={"PW": "s3cret"}) == b"s3cret"


def test_a_secret_comes_from_a_file_without_its_line_break(secret_file: Path) -> None:
    assert resolve_secret(file=str(secret_file)) == b"s3cret"


@pytest.mark.parametrize(
    ("content", "secret"),
    [(b"a\r\n", b"a"), (b"a\n\n", b"a\n"), (b" a ", b" a "), (b"\xff\x00", b"\xff\x00")],
    ids=["windows", "one_line_break_only", "spaces_stay", "any_bytes"],
)
def test_only_one_line_break_at_the_end_is_dropped(
    secret_file: Path, content: bytes, secret: bytes
) -> None:
    secret_file.write_bytes(content)
    assert resolve_secret(file=str(secret_file)) == secret


@pytest.mark.parametrize("environ", [{}, {"PW": ""}, {"PW": "\n"}], ids=["unset", "empty", "blank"])
def test_a_variable_without_a_secret_is_an_error(environ: dict[str, str]) -> None:
    with pytest.raises(SecretError, match="environment variable PW should hold a secret and is"):
        resolve_secret(env="PW", environ=environ)


def test_a_missing_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match=r"secret file .*gone cannot be read \(No such file"):
        resolve_secret(file=str(tmp_path / "gone"))


def test_a_folder_is_not_a_secret(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="cannot be read"):
        resolve_secret(file=str(tmp_path))


def test_an_empty_file_is_an_error(secret_file: Path) -> None:
    secret_file.write_bytes(b"\n")
    with pytest.raises(SecretError, match="is empty"):
        resolve_secret(file=str(secret_file))


def test_a_file_of_another_kind_is_an_error(secret_file: Path) -> None:
    secret_file.write_bytes(b"x" * (MAX_SECRET_BYTES + 1))
    with pytest.raises(SecretError, match="is it the right file"):
        resolve_secret(file=str(secret_file))


def test_a_file_that_everybody_may_read_is_used_with_a_warning(
    secret_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Kubernetes and Docker mount secrets as 0644 and 0444."""
    secret_file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert resolve_secret(file=str(secret_file)) == b"s3cret"
    assert "may be read by everybody" in caplog.text
    assert "s3cret" not in caplog.text


def test_a_file_that_everybody_may_write_is_refused(secret_file: Path) -> None:
    secret_file.chmod(0o602)
    with pytest.raises(SecretError, match="may be written by everybody; run chmod 600"):
        resolve_secret(file=str(secret_file))


def test_a_private_file_is_used_without_a_word(
    secret_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    resolve_secret(file=str(secret_file))
    assert not caplog.records


def test_a_secret_that_is_named_twice_is_an_error() -> None:
    with pytest.raises(UsageError, match="named twice"):
        resolve_secret(env="PW", file="/x", environ={"PW": "s3cret"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://:pw@host", True),
        ("redis://user:pw@host:6379/0", True),
        ("--conf url=https://u:p@h/x", True),
        ("redis://user:@host", True),
        ("redis://host:6379/0", False),
        ("abfss://container@account.dfs.core.windows.net/path", False),
        ("s3a://bucket/a:b@c", False),
        ("embedded:/tmp/a@b", False),
    ],
)
def test_a_password_in_a_url_is_seen(text: str, expected: bool) -> None:
    assert has_password(text) is expected
