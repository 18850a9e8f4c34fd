"""How an object store and a catalog are reached: the settings that are no secret, of an input and of an output."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from kvspark.config.section.secret import holds_secret


def _without_secrets(storage: dict[str, str]) -> dict[str, str]:
    for key, value in storage.items():
        if holds_secret(key, value) or "key" in key.lower() or "token" in key.lower():
            raise ValueError(
                f"{key} looks like a secret, and confs are read by many; give it to driver and workers by environment "
                "variable"
            )
    return storage


Storage = Annotated[dict[str, str], AfterValidator(_without_secrets)]
"""Settings by name: `endpoint`, `region`."""

STORAGE = (
    "Settings of an object store that are no secret: `endpoint`, `region`; for HDFS, Hadoop's settings of a "
    "client, over those in `HADOOP_CONF_DIR`. Credentials come from the environment (`AWS_ACCESS_KEY_ID`, a ticket of "
    "Kerberos, …), a file that it names, or the machine's own identity, on driver and workers."
)

CATALOG = (
    "Properties of an Iceberg catalog that are no secret: `type`, `uri`, `warehouse`. They add to what "
    "`~/.pyiceberg.yaml` and the environment (`PYICEBERG_CATALOG__NAME__…`) say of it."
)


def one_spelling(path: str) -> str:
    """`path` in the words in which two spellings of it are equal: of a URL `s3a://b/x/` and `S3://b/x` are one.

    Raises:
        ValueError: it is a URL with a folder that has no name.
    """
    scheme, colon, rest = path.partition("://")
    if not colon:
        return os.path.normpath(Path(path).absolute())
    scheme = scheme.lower()
    if scheme != "file" and "//" in rest.rstrip("/"):
        raise ValueError(
            f"{path} has a folder without a name (//), which no store is asked for; write one slash"
        )
    # Hadoop's name for S3.
    scheme = "s3" if scheme == "s3a" else scheme
    return os.path.normpath(Path(f"{scheme}://{rest}").absolute())
