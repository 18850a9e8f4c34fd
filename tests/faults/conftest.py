"""What the tests of faults may ask for."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import case, models

Fired = Callable[..., None]


@pytest.fixture
def trail(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the functions of `models` leave their files."""
    trail = models.trail_of(os.getpid())
    trail.mkdir()
    monkeypatch.setenv(models.TRAIL_ENV, str(trail))
    yield trail
    # Whoever still waits goes on, and ends with its session.
    (trail / models.OPEN).touch()
    shutil.rmtree(trail)


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(case.PASSWORD_ENV, case.PASSWORD)


@pytest.fixture
def fired(record_property: Callable[[str, object], None]) -> Fired:
    """A function to call with a row, and how often its fault happened: never is a failure.

    What it is given goes into the table of `make faults`.
    """

    def fired(row: str, count: int, **more: object) -> None:
        assert count > 0, f"{row}: the fault did not happen, so nothing was shown"
        record_property("fault", {"row": row, "fired": count, **more})

    return fired


def names_in(path: Path) -> set[str]:
    return {item.name for item in path.iterdir()}


def until(is_so: Callable[[], object], seconds: float = 60) -> None:
    """Waits until something holds that another process does."""
    ends = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.05)
