"""What the tests of faults may ask for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults import case

Fired = Callable[..., None]


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
