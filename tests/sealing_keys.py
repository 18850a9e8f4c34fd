"""The keys that entries are sealed with in tests, where a test brings none of its own."""

from __future__ import annotations

TEST_KEYS = f"0:{'a0' * 32},1:{'b1' * 32}"
"""In the environment of every test and of the workers that it starts: see tests/conftest.py."""
