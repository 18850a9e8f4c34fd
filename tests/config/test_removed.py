"""Keys that the conf no longer has are told with what replaced them."""

from __future__ import annotations

import pytest

from kvspark.config.job import JobConfig
from kvspark.config.section.explain import paths, unknown_key
from kvspark.config.section.removed import REMOVED, removed_key


def test_no_key_of_the_conf_is_said_to_be_gone():
    assert not set(REMOVED) & set(paths(JobConfig))
    assert [key for key in paths(JobConfig) if removed_key(key.split("."))] == []


@pytest.mark.parametrize("key", REMOVED)
def test_a_removed_key_is_told_wherever_its_section_is_checked(key):
    said = unknown_key(key.split("."), JobConfig)
    assert said.startswith(f"{key} is gone: remove it")
    assert unknown_key(key.split(".")[1:], JobConfig) == said


def test_part_of_a_name_is_not_that_name():
    assert removed_key(["cache", "keeper_bytes"]) is None
    assert removed_key(["bytes"]) is None
