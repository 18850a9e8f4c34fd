"""How an object store and a catalog are reached: the settings that are no secret, of an input and of an output."""

from __future__ import annotations

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
