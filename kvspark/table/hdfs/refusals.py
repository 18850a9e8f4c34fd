"""What the client of HDFS raises, as errors of one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

_RPC = re.compile(r'\w*RPCError\("(?:[\w.]+\.)?([\w$]+)", "(.*)', re.DOTALL)
"""What the NameNode answered: the class of the error, and what it says."""

_NAMED = re.compile(r'\w+\("(.*)', re.DOTALL)
"""What the client says itself."""

_GONE = ("LeaseExpiredException", "FileNotFoundException")
_DENIED = ("AccessControlException", "AuthorizationException")
_REASONS = {
    "DSQuotaExceededException": "its quota of space is used up: {}",
    "NSQuotaExceededException": "its quota of names is used up: {}",
    "SafeModeException": "the NameNode is in safe mode and takes no writes",
    "StandbyException": "no NameNode is active",
}
_READ_ON = ("DSQuotaExceededException", "NSQuotaExceededException", "SafeModeException")
_MOST_LETTERS = 200


@final
class TakesNoWritesError(OSError):
    """Raised when what is there can be read, and nothing more be written."""


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Turns what the client raises inside into an OSError of one line that begins with `what`.

    Raises:
        FileNotFoundError, FileExistsError, PermissionError: as the NameNode says.
        TakesNoWritesError: a quota is used up, or the NameNode is in safe mode.
        OSError: anything else.
    """
    try:
        yield
    except FileNotFoundError as exc:
        raise FileNotFoundError(f"{what}: there is no such file in HDFS ({line_of(exc)})") from None
    except FileExistsError as exc:
        raise FileExistsError(f"{what}: it is there already ({line_of(exc)})") from None
    except OSError as exc:
        raise OSError(f"{what}: HDFS does not answer ({line_of(exc)})") from None
    except RuntimeError as exc:
        raise _told(what, exc) from None


def _told(what: str, exc: RuntimeError) -> OSError:
    match = _RPC.match(str(exc))
    if match is None:
        return OSError(f"{what}: HDFS does not do it ({line_of(exc)})")
    kind, said = match[1], _first(match[2])
    if kind in _GONE:
        return FileNotFoundError(f"{what}: there is no such file in HDFS any more ({said})")
    if kind in _DENIED:
        return PermissionError(f"{what}: HDFS does not let this user do it ({said})")
    reason = _REASONS.get(kind, f"{kind}: {{}}").replace("{}", said)
    made = TakesNoWritesError if kind in _READ_ON else OSError
    return made(f"{what}: HDFS does not do it ({reason})")


def line_of(exc: BaseException) -> str:
    """What the client says, in one line."""
    text = str(exc)
    match = _NAMED.match(text)
    return _first(match[1] if match else text) or "no reason given"


def _first(text: str) -> str:
    # Behind the first line is a trace of Java, whose line ends the client writes as they are or as `\n`.
    line = re.split(r"\n|\\n", text, maxsplit=1)[0].removesuffix('")').replace('\\"', '"')
    return line.strip()[:_MOST_LETTERS]
