"""The parts of a store's URL, which may name several hosts."""

from __future__ import annotations

import re
from urllib.parse import SplitResult, urlsplit

SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
    "hbase",
    "embedded",
    "memory",
)
"""The kinds of stores that a URL may name."""

STORES = (
    "redis://HOST:PORT, rediss://HOST:PORT, unix:///PATH, redis+sentinel://HOST:PORT/SERVICE, "
    "redis+cluster://HOST:PORT, hbase://HOST/TABLE, embedded:PATH or memory://"
)
"""How each of them is written."""

_PLACES = re.compile(r"(?P<scheme>[^:/?#]+)://(?P<places>[^/?#]*,[^/?#]*)(?P<rest>.*)", re.DOTALL)


def split_store_url(url: str) -> SplitResult:
    """The parts of `url`; its `netloc` has all hosts, with commas between them.

    `urlsplit` knows one host: newer releases of Python, patched ones of older versions too, refuse
    an IPv6 address behind another host.

    Raises:
        ValueError: it is no URL.
    """
    several = _PLACES.fullmatch(url)
    if several is None:
        return urlsplit(url)
    parts = urlsplit(f"{several['scheme']}://several{several['rest']}")
    return parts._replace(netloc=several["places"])
