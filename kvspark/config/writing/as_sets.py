"""Changes of a conf as a person gives them on a command line."""

from __future__ import annotations

import json
from collections.abc import Mapping

from kvspark.config.reading.document import Trail


def as_sets(changes: Mapping[Trail, int | str | bool | None]) -> list[str]:
    """`changes` as `A.B=VALUE` of `--set`, in their order."""
    return [
        f"{'.'.join(trail)}={value if isinstance(value, str) and value.isidentifier() else json.dumps(value)}"
        for trail, value in changes.items()
    ]
