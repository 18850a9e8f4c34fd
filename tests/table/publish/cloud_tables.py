"""Tables in the doubles of object stores, read by the client alone: what says where the table is, and the files there."""

from __future__ import annotations

import json
from urllib.parse import unquote

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
from obstore.store import from_url


def cloud_rows(url: str) -> list[tuple[str, str]]:
    """What a reader finds; none before the first run."""
    scheme, _, place = url.partition("://")
    bucket, _, folder = place.partition("/")
    store = from_url(f"{scheme}://{bucket}", client_options={"allow_http": True})
    try:
        pointer = json.loads(bytes(obstore.get(store, f"{folder}/_kvspark/pointer.json").bytes()))
    except FileNotFoundError:
        return []
    if pointer["current"] is None:
        return []
    root = pointer["current"]["url"].removeprefix(f"{scheme}://{bucket}/")
    rows: list[tuple[str, str]] = []
    for each in [each for page in obstore.list(store, root) for each in page]:
        names = each["path"].removeprefix(f"{root}/").split("/")
        if any(name.startswith("_") for name in names):
            continue
        data = bytes(obstore.get(store, each["path"]).bytes())
        kind = unquote(names[0].removeprefix("kind="))
        contents = pq.read_table(pa.BufferReader(data))["content"].to_pylist()
        rows += [(content, kind) for content in contents]
    return sorted(rows)
