"""What was added between two lists of files, and what was more than added."""

from __future__ import annotations

import numpy as np
import pytest

from kvspark.errors import DataError
from kvspark.table.input.growth import added_files, number_of
from kvspark.table.input.table_file import Deleted, ListedFile

ONE, TWO = Deleted.of(np.array([1])), Deleted.of(np.array([1, 2]))


def listed(files: dict[str, Deleted | None]) -> list[ListedFile]:
    return [ListedFile(name, {}, deleted) for name, deleted in files.items()]


def test_new_files_are_what_was_added() -> None:
    now = listed({"a": ONE, "b": None, "c": TWO})
    added = added_files(now, listed({"a": ONE}), "version 1", "t")
    assert [file.location for file in added] == ["b", "c"]
    assert added_files(now, now, "version 1", "t") == ()


@pytest.mark.parametrize("before", [{"z": None}, {"a": None}, {"a": TWO}, {"b": ONE}])
def test_a_file_that_is_gone_or_has_other_deleted_rows_was_changed(
    before: dict[str, Deleted | None],
) -> None:
    with pytest.raises(DataError, match=r"rows were changed or removed.*nothing was written"):
        added_files(listed({"a": ONE, "b": None}), listed(before), "version 1", "t")


def test_a_version_is_read_in_the_words_of_reports() -> None:
    assert number_of("version 12", "version", "t") == 12
    assert number_of("no snapshot", "snapshot", "t") is None
    for other in ("snapshot 12", "run 12", "version 1a", "no version of it"):
        with pytest.raises(DataError, match="a version was expected; nothing was written"):
            number_of(other, "version", "t")
