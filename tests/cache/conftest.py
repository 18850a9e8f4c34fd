"""What the tests of the cache may ask for."""

from __future__ import annotations

import os
from itertools import count

import pytest

_PREFIX = count()


@pytest.fixture
def key():
    """A function that makes keys which no other test uses."""
    prefix = b"%d/%d/" % (os.getpid(), next(_PREFIX))
    return lambda name: prefix + name
