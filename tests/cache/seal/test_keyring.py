from __future__ import annotations

import stat

import pytest

from kvspark.cache.seal.keyring import KeyRing, parse_keys, write_keys
from kvspark.config.sealing import SealingConfig
from kvspark.errors import SecretError, UsageError

ZERO, ONE, TWO = "0:" + "00" * 32, "1:" + "11" * 32, "2:" + "22" * 32


def test_the_first_key_seals_and_all_of_them_open():
    keys = parse_keys(f"# comment\n{ZERO}\n{TWO}  # new\n\n{ONE}\n".encode(), "here")
    assert keys.primary == 2
    assert set(keys.masters) == {1, 2}
    assert keys.hashing == bytes(32)


def test_an_environment_variable_may_hold_them_on_one_line():
    assert parse_keys(f"{ZERO},{ONE},{TWO}".encode(), "here").primary == 1


def test_keys_are_not_shown():
    shown = repr(parse_keys(f"{ZERO},{ONE}".encode(), "here"))
    assert "11" * 4 not in shown
    assert "\\x11" not in shown


@pytest.mark.parametrize(
    "text",
    ["", ZERO, ONE, f"{ZERO},{ONE},{ONE}", f"{ZERO},70000:{'11' * 32}", f"{ZERO},1:{'11' * 31}"],
    ids=["nothing", "only line 0", "no line 0", "twice", "large number", "short key"],
)
def test_what_is_no_key_ring_is_refused_without_showing_it(text):
    with pytest.raises(SecretError, match="keygen") as caught:
        parse_keys(text.encode(), "key file k")
    assert "key file k" in str(caught.value)
    assert "1111" not in str(caught.value)


def test_a_new_file_is_for_its_owner_alone_and_a_second_key_opens_before_it_seals(tmp_path):
    path = tmp_path / "keys"
    assert write_keys(path) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = parse_keys(path.read_bytes(), "here")
    assert write_keys(path) == 2
    added = parse_keys(path.read_bytes(), "here")
    assert (added.primary, set(added.masters)) == (1, {1, 2})
    assert added.hashing == first.hashing
    assert write_keys(path, is_primary=True) == 3
    assert parse_keys(path.read_bytes(), "here").primary == 3
    assert [each.name for each in tmp_path.iterdir()] == ["keys"]


def test_a_file_that_holds_something_else_is_not_replaced(tmp_path):
    path = tmp_path / "keys"
    path.write_text("a password")
    with pytest.raises(SecretError):
        write_keys(path)
    assert path.read_text() == "a password"


def test_a_folder_that_is_not_there_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be written"):
        write_keys(tmp_path / "none" / "keys")


def test_a_ring_sees_a_new_file_and_keeps_its_keys_while_there_is_none(tmp_path):
    path = tmp_path / "keys"
    write_keys(path)
    ring = KeyRing(SealingConfig(key_file=str(path)))
    first = ring.keys()
    assert ring.keys() is first
    write_keys(path, is_primary=True)
    assert ring.keys().primary == 2
    path.unlink()
    assert ring.keys().primary == 2
    path.write_text("damaged")
    assert ring.keys().primary == 2


def test_a_command_prints_the_keys_and_no_shell_reads_it(tmp_path):
    (tmp_path / "keys").write_text(f"{ZERO}\n{ONE}\n")
    config = SealingConfig(key_command=("cat", str(tmp_path / "keys")))
    assert KeyRing(config).keys().primary == 1
    with pytest.raises(SecretError, match="cannot be run"):
        KeyRing(SealingConfig(key_command=("cat keys; true",)))
    with pytest.raises(SecretError, match="exit code 1") as caught:
        KeyRing(SealingConfig(key_command=("cat", str(tmp_path / "no-such-file"))))
    assert "no-such-file" not in str(caught.value)


def test_a_key_file_that_everybody_may_write_is_refused(tmp_path):
    path = tmp_path / "keys"
    write_keys(path)
    path.chmod(0o666)
    with pytest.raises(SecretError, match="chmod 600"):
        KeyRing(SealingConfig(key_file=str(path)))
