"""Secrets by reference: the conf names a variable, a file or a command, never the secret.

The reference may travel to executors and appear in logs; the secret is read where it is used,
each time it is used, and is held by nobody.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from kvspark.errors import SecretError, UsageError

_LOG = logging.getLogger(__name__)

MAX_SECRET_BYTES = 65_536
"""A longer file is not a secret but a mistake in the conf."""

COMMAND_S = 20.0
"""Seconds that a command which prints a secret may take."""

# A user alone is no secret: `abfss://CONTAINER@ACCOUNT/…` names a folder.
_PASSWORD_IN_URL = re.compile(r"[A-Za-z][\w+.-]*://[^/?#\s@]*:[^/\s]*@")

_SECRET_KEY = re.compile(
    r"secret|passw|passphrase|token|credential|(access|account|private|api|shared)[._-]?key",
    re.IGNORECASE,
)
# The last word of a key that holds a reference or a setting and no secret.
_REFERENCE = re.compile(
    r"(file|path|provider|class|impl|enabled|enable|name|interval|period|lifetime|algorithm|ratio)$",
    re.IGNORECASE,
)
# Kubernetes' own references: a secret's name and where it is mounted.
_MOUNTED = re.compile(r"spark\.kubernetes\.(driver|executor)\.(secrets|secretKeyRef)\.")
_SECRET_OPTION = re.compile(r"(passw\w*|secret|token)\s*=\s*\S", re.IGNORECASE)


def resolve_secret(
    *,
    env: str | None = None,
    file: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> bytes | None:
    """The secret in the environment variable `env` or the file `file`; None if neither is named.

    One line break at the end is not part of the secret. A file that everybody may read is used
    with a warning (the secrets of Kubernetes and of Docker are such files); one that everybody
    may write is refused, because anybody could have put another secret there.

    Raises:
        UsageError: both are named.
        SecretError: the variable is not set, the file cannot be read, or the secret is empty.
    """
    if env is not None and file is not None:
        raise UsageError(
            f"a secret was named twice, as environment variable {env} and as file {file}; keep one"
        )
    if env is not None:
        return _from_environment(env, os.environ if environ is None else environ)
    if file is not None:
        return _from_file(Path(file))
    return None


def secret_from_command(words: Sequence[str]) -> bytes:
    """What the program `words[0]` prints with the other words as its arguments; no shell reads them.

    Raises:
        SecretError: it cannot be run, fails, takes too long, or prints nothing or too much. What it
            prints is never part of the message.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the conf names the program; there is no shell.
            list(words),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=COMMAND_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SecretError(
            f"the command {words[0]} should print a secret and took more than {COMMAND_S:g} s"
        ) from None
    except OSError as exc:
        raise SecretError(f"the command {words[0]} cannot be run ({exc.strerror})") from None
    if done.returncode:
        raise SecretError(
            f"the command {words[0]} should print a secret and ended with exit code {done.returncode}"
        )
    if len(done.stdout) > MAX_SECRET_BYTES:
        raise SecretError(f"the command {words[0]} printed more than {MAX_SECRET_BYTES} bytes")
    secret = _without_line_break(done.stdout)
    if not secret:
        raise SecretError(f"the command {words[0]} should print a secret and printed nothing")
    return secret


def has_password(text: str) -> bool:
    """True if `text` holds a URL with a password in it, `kind://user:password@host`."""
    return _PASSWORD_IN_URL.search(text) is not None


def holds_secret(key: str, value: str) -> bool:
    """True if a Spark setting looks like a secret itself, rather than a reference to one."""
    is_secret_key = _SECRET_KEY.search(key) and not _REFERENCE.search(key)
    if is_secret_key and not _MOUNTED.match(key):
        return value not in {"true", "false"}
    return has_password(value) or _SECRET_OPTION.search(value) is not None


def _from_environment(name: str, environ: Mapping[str, str]) -> bytes:
    value = environ.get(name)
    if value is None:
        raise SecretError(
            f"environment variable {name} should hold a secret and is not set; "
            "set it for the driver and for every executor"
        )
    secret = _without_line_break(value.encode("utf-8", "surrogateescape"))
    if not secret:
        raise SecretError(f"environment variable {name} should hold a secret and is empty")
    return secret


def _from_file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            content = stream.read(MAX_SECRET_BYTES + 1)
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise SecretError(
            f"secret file {path} cannot be read ({reason}); "
            "it must be there for the driver and for every executor"
        ) from None
    if mode & stat.S_IWOTH:
        raise SecretError(f"secret file {path} may be written by everybody; run chmod 600 {path}")
    if mode & stat.S_IROTH:
        _LOG.warning("secret file %s may be read by everybody; run chmod 600 on it", path)
    if len(content) > MAX_SECRET_BYTES:
        raise SecretError(
            f"secret file {path} is longer than {MAX_SECRET_BYTES} bytes; is it the right file?"
        )
    secret = _without_line_break(content)
    if not secret:
        raise SecretError(f"secret file {path} is empty")
    return secret


def _without_line_break(secret: bytes) -> bytes:
    return secret.removesuffix(b"\n").removesuffix(b"\r")
