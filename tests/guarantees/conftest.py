"""A model of each source, with the bits of its rows, and a server for the caches."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvspark.infer.model import Model
from tests.guarantees.sources import SOURCES, output_of
from tests.guarantees.surfaces import Bits, by_predict
from tests.redis_server import RedisAddress, running_redis


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisAddress]:
    with running_redis() as server:
        yield server


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    """A model of each source."""
    return {
        name: source.make(tmp_path_factory.mktemp("source")) for name, source in SOURCES.items()
    }


@pytest.fixture(scope="session")
def right(models: dict[str, Model]) -> dict[str, Bits]:
    """The bits of each source's rows, without a cache: what every cell must give."""
    return {
        name: by_predict(model, output_of(name), rows_of(name), SOURCES[name].type, None)
        for name, model in models.items()
    }


def rows_of(name: str) -> list[object]:
    """A source's rows with a null among them."""
    rows: list[object] = list(SOURCES[name].rows)
    return [*rows[:2], None, *rows[2:]]
