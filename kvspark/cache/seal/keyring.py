"""The keys that entries are sealed with: one that seals, and all that open.

    # kvspark sealing keys
    0:<64 hexadecimal digits>      keys the hashes of rows; it stays as long as the entries do
    2:<64 hexadecimal digits>      the first of the others seals
    1:<64 hexadecimal digits>      and every one of them opens

An entry carries the number of its key, 1 to 65535. A key whose line is gone is retired: what it
sealed is a miss, in every process that reads the file again. To rotate without a miss, first add
the new key at the end, everywhere; then move it to the front.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from kvspark.config.sealing import SealingConfig
from kvspark.errors import SecretError, UsageError

_LOG = logging.getLogger(__name__)

KEY_BYTES = 32
MAX_KEY_ID = 2**16 - 1

_HEAD = "# kvspark sealing keys: line 0 keys the hashes, the next one seals, all others open"
_LINE = re.compile(rb"(\d{1,5}):([0-9a-fA-F]{64})")


@final
@dataclass(frozen=True, slots=True)
class Keys:
    """What a ring held at one moment."""

    primary: int
    """The number of the key that seals."""
    masters: Mapping[int, bytes] = field(repr=False)
    """32 bytes by number."""
    hashing: bytes = field(repr=False)
    """32 bytes that key the hashes of a namespace without a secret of its own."""


@final
class KeyRing:
    """The keys at the place that `config` names, read again when the file there changes.

    Raises:
        SecretError: there is nothing to read, or it does not hold keys.
    """

    def __init__(self, config: SealingConfig) -> None:
        self._config = config
        self._state = self._stat()
        self._keys = parse_keys(config.text(), _place(config))

    def keys(self) -> Keys:
        """The keys now; the same object until they change.

        A file that has gone or cannot be read changes nothing; only a file without a key retires it.
        """
        state = self._stat()
        if state != self._state:
            self._state = state
            try:
                self._keys = parse_keys(self._config.text(), _place(self._config))
            except SecretError as exc:
                _LOG.warning("the sealing keys stay as they were: %s", exc)
        return self._keys

    def _stat(self) -> tuple[int, ...] | None:
        if not self._config.key_file:
            return None
        try:
            found = os.stat(self._config.key_file)  # noqa: PTH116 - once a batch, and Path is slower.
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def parse_keys(text: bytes, place: str) -> Keys:
    """The keys that `text` lists; `place` says in errors where it came from.

    Raises:
        SecretError: a line is no key, a number comes twice, or line 0 or all others are missing.
    """
    masters: dict[int, bytes] = {}
    lines = [line.partition(b"#")[0] for line in text.splitlines()]
    for number, content in enumerate(filter(None, re.split(rb"[\s,]+", b"\n".join(lines))), 1):
        found = _LINE.fullmatch(content)
        key_id = int(found[1]) if found else -1
        if found is None or key_id > MAX_KEY_ID or key_id in masters:
            raise SecretError(
                f"{place}: key {number} is not NUMBER:KEY with a number of its own (0 to "
                f"{MAX_KEY_ID}) and 64 hexadecimal digits; kvspark keygen FILE makes such a file"
            )
        masters[key_id] = bytes.fromhex(found[2].decode())
    hashing = masters.pop(0, None)
    if hashing is None or not masters:
        raise SecretError(
            f"{place} needs a line 0 and at least one other key; kvspark keygen FILE makes such a file"
        )
    return Keys(next(iter(masters)), masters, hashing)


def write_keys(path: Path, *, is_primary: bool = False) -> int:
    """The number of the new key in the file `path`, which is made (mode 600) or gets one key more.

    A key that is added opens from now on; `is_primary` puts it first, so that it seals. The file is
    replaced in one step.

    Raises:
        SecretError: the file is there and holds something else.
        UsageError: it cannot be written.
    """
    if path.exists():
        text = SealingConfig(key_file=str(path)).text()
        old = parse_keys(text, f"key file {path}")
        key_id = max(old.masters) + 1
        if key_id > MAX_KEY_ID:
            raise UsageError(f"{path} has key {MAX_KEY_ID}, the last number that there is")
        added = {key_id: secrets.token_bytes(KEY_BYTES)}
        masters = {**added, **old.masters} if is_primary else {**old.masters, **added}
        hashing = old.hashing
    else:
        key_id, hashing = 1, secrets.token_bytes(KEY_BYTES)
        masters = {1: secrets.token_bytes(KEY_BYTES)}
    lines = [_HEAD, f"0:{hashing.hex()}", *(f"{i}:{key.hex()}" for i, key in masters.items()), ""]
    _replace(path, "\n".join(lines))
    return key_id


def _replace(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        beside.replace(path)
    except OSError as exc:
        beside.unlink(missing_ok=True)
        raise UsageError(f"key file {path} cannot be written ({exc.strerror})") from None


def _place(config: SealingConfig) -> str:
    if config.key_file:
        return f"key file {config.key_file}"
    if config.key_command:
        return f"what the command {config.key_command[0]} printed"
    return f"environment variable {config.explicit().key_env}"
