"""Row groups in splits: all of them, once, in order, none cut, and not more at a time than Spark's settings say."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kvspark.table.input.splits import Piece, RowGroup, SplitSize, splits_of

GROUPS = st.builds(RowGroup, st.integers(0, 5), st.integers(1, 100))
FILES = st.lists(st.lists(GROUPS, max_size=6), max_size=6)
SIZES = st.builds(SplitSize, st.integers(1, 300), st.integers(0, 20), st.integers(1, 8))


@given(FILES, SIZES)
def test_each_row_group_with_rows_is_in_one_split(files: list[list[RowGroup]], size: SplitSize):
    splits = splits_of(files, size)
    pieces = [piece for split in splits for piece in split]
    found = [(piece.file, group) for piece in pieces for group in piece.groups]
    wanted = [
        (f, g) for f, groups in enumerate(files) for g, each in enumerate(groups) if each.rows
    ]
    assert found == wanted
    for piece in pieces:
        before = files[piece.file][: piece.groups[0]]
        assert piece.first_row == sum(group.rows for group in before)
        assert all(later == group + 1 for group, later in pairwise(piece.groups))
    assert splits == splits_of(files, size)


@given(FILES, SIZES)
def test_a_split_of_more_than_one_row_group_is_as_small_as_it_should_be(
    files: list[list[RowGroup]], size: SplitSize
):
    for split in splits_of(files, size):
        groups = [files[piece.file][group] for piece in split for group in piece.groups]
        read = sum(group.size_bytes for group in groups)
        assert len(groups) == 1 or read <= size.most_bytes


def test_small_files_go_together_and_large_ones_apart():
    small, large = [RowGroup(1, 10)], [RowGroup(1, 60), RowGroup(2, 60)]
    size = SplitSize(most_bytes=100, open_bytes=5, cores=1)
    assert splits_of([small, small, large, small], size) == [
        (Piece(0, (0,), 0), Piece(1, (0,), 0), Piece(2, (0,), 0)),
        (Piece(2, (1,), 1), Piece(3, (0,), 0)),
    ]


def test_few_bytes_are_for_all_cores():
    files = [[RowGroup(1, 10)]] * 4
    assert len(splits_of(files, SplitSize(most_bytes=1_000, open_bytes=1, cores=4))) == 4


def test_a_small_file_of_many_row_groups_is_one_task():
    files = [[RowGroup(3, 10)] * 500]
    size = SplitSize(most_bytes=128 << 20, open_bytes=4 << 20, cores=2)
    assert splits_of(files, size) == [(Piece(0, tuple(range(500)), 0),)]
    assert len(splits_of(files * 6, size)) == 2
