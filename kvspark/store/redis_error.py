"""What an error of redis-py, or of the sockets below it, means to the cache.

Classes are told by name, because the library is imported in one file only, and has other classes
in other versions. `AuthenticationError` and a failed TLS check are ConnectionErrors to redis-py,
and cluster errors are no RedisErrors, so the order of these questions matters.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator

from kvspark.errors import StoreError, StoreFullError, StoreRefusedError, StoreUnavailableError

_REFUSED = frozenset(
    {
        "AuthenticationError",
        "AuthenticationWrongNumberOfArgsError",
        "AuthorizationError",
        "NoPermissionError",
        # A cluster wants another client. MovedError is an AskError.
        "AskError",
        "ClusterCrossSlotError",
    }
)
"""Trying again cannot help."""

_REFUSED_TEXTS = (
    "DENIED",
    "WRONGTYPE",
    "unknown command",
    "unsupported command",
    "This instance has cluster support disabled",
    "DB index is out of range",
    "invalid DB index",
)
"""Beginnings of error replies that redis-py has no class for."""

_FULL = frozenset({"OutOfMemoryError", "ReadOnlyError"})
_FULL_TEXTS = ("MISCONF", "NOREPLICAS")

# The peer went away in the middle of TLS: nothing was said about trust.
_TLS_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)


def store_error(exc: BaseException, place: object) -> StoreError:
    """The store's error for `exc`, which came from the server at `place`.

    Unavailable is everything that another call may not meet, and everything unknown.
    """
    said = _said(exc)
    names = {each.__name__ for each in type(exc).__mro__}
    if "AskError" in names:
        said = "this key is on another server of its cluster; write redis+cluster:// in the URL"
    elif words := _access_words(exc, names):
        said = words
    is_refusal = names & _REFUSED or said.startswith(_REFUSED_TEXTS) or _is_tls_refusal(exc)
    said = next((words for text, words in _OTHER_SERVER.items() if text in said), said)
    if is_refusal:
        return StoreRefusedError(f"{place} refuses us: {said}")
    if names & _FULL or said.startswith(_FULL_TEXTS):
        return StoreFullError(f"{place} takes no writes: {said}")
    return StoreUnavailableError(f"{place} did not answer: {said}")


_OTHER_SERVER = {
    "DB index is out of range": "it has no database of that number; name another one behind the port, /0 for example",
    "cluster support disabled": "it is no node of a cluster; write redis:// or rediss://",
    "unknown command `SENTINEL`": "it is no sentinel; name the sentinels' port (26379), or write redis://",
    "unknown command 'SENTINEL'": "it is no sentinel; name the sentinels' port (26379), or write redis://",
}
"""What a server says that is another kind of server than the URL tells."""


def _access_words(exc: BaseException, names: set[str]) -> str:
    """What a user lacks who may not come in, or not do this; "" for other trouble."""
    said = str(exc)
    if "NoPermissionError" in names:
        command = re.search(r"run the '([\w|-]{1,40})' command", said)
        if command:
            return f"its user may not run {command[1]}; allow it as conf/redis/users.acl does (+{command[1]})"
        if "key" in said:
            return "its user may not touch our keys; allow them as conf/redis/users.acl does (~k1*)"
    if "AuthenticationError" not in names:
        return ""
    if "required" in said.lower() or "already authenticated" in said:
        return (
            "it wants a password and was given none; name the environment variable or the file that holds "
            "it (password_env, password_file), and username unless it is the default user's"
        )
    if "invalid username-password" in said or "invalid password" in said.lower():
        return (
            "it does not know this user with this password; check username, and what password_env or "
            "password_file holds (ACL LIST on the server shows whether the user is on)"
        )
    if "without any password configured" in said:
        return "it has no password and was given one; leave password_env and password_file out"
    return ""


def is_forbidden(exc: BaseException) -> bool:
    """True if the server does not let this user run the command, or nobody: it has another name."""
    names = {each.__name__ for each in type(exc).__mro__}
    return "NoPermissionError" in names or _said(exc).startswith("unknown command")


def is_timeout(exc: BaseException) -> bool:
    """True if the trouble was that time ran out."""
    return any(isinstance(each, TimeoutError) for each in _chain(exc))


def _is_tls_refusal(exc: BaseException) -> bool:
    return any(
        isinstance(each, ssl.SSLError) and not isinstance(each, (TimeoutError, *_TLS_CUT))
        for each in _chain(exc)
    )


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """`exc` and what led to it; redis-py raises its own errors while it handles the socket's."""
    link: BaseException | None = exc
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _said(exc: BaseException) -> str:
    """The error in a few words: what follows a comma may quote a key or a value."""
    return str(exc).partition(",")[0][:120] or type(exc).__name__
