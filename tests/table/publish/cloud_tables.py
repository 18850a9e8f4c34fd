"""Tables in object stores and their doubles, read by the client alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import obstore
from obstore.store import from_url


def _opened(url: str) -> tuple[Any, str]:
    """The bucket of `url`, and the name in it."""
    scheme, _, place = url.partition("://")
    bucket, _, name = place.partition("/")
    return from_url(f"{scheme}://{bucket}", client_options={"allow_http": True}), name


def cloud_bytes(url: str) -> bytes | None:
    """The object at `url`; None if there is none."""
    store, name = _opened(url)
    try:
        return bytes(obstore.get(store, name).bytes())
    except FileNotFoundError:
        return None


def cloud_names(url: str) -> Iterator[str]:
    """The objects below `url`, by their names in it."""
    store, name = _opened(url)
    for page in obstore.list(store, f"{name}/"):
        yield from (each["path"].removeprefix(f"{name}/") for each in page)
