"""Text features: hashed as they were written, whatever has been called since."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from kvspark.errors import RowError, UsageError
from kvspark.model.features.text import TextFeatures


def tokenizer() -> Tokenizer:
    words = ["[UNK]", "a", "dog", "barks", "loudly", "cat"]
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


def features(max_length: int = 8, **changes: Any) -> TextFeatures:
    return TextFeatures(tokenizer().to_str(), max_length=max_length, **changes)


def test_tokens_and_mask_have_the_length_of_the_text() -> None:
    ids, mask = features().computation().run([["a dog barks", "cat"]])
    assert [row.tolist() for row in ids] == [[1, 2, 3], [5]]
    assert [row.tolist() for row in mask] == [[1, 1, 1], [1]]


def test_a_long_text_is_cut() -> None:
    ids, _ = features(max_length=2).computation().run([["a dog barks loudly"]])
    assert ids[0].tolist() == [1, 2]


def test_a_longer_text_is_a_bad_row_where_it_may_not_be_cut() -> None:
    strict = features(max_length=2).with_longer_bad()
    with pytest.raises(RowError, match="more than 2 tokens") as bad:
        strict.computation().run([["a dog", "a dog barks loudly"]])
    assert bad.value.row == 1
    assert "barks" not in str(bad.value)
    ids, _ = strict.computation().run([["a dog", "cat"]])
    assert [row.tolist() for row in ids] == [[1, 2], [5]]
    assert strict.content != features(max_length=2).content


def test_using_the_tokenizer_does_not_change_the_digest() -> None:
    made = features()
    before = made.content
    made.computation().run([["a dog", "a dog barks loudly"]])
    made.example()
    assert made.content == before == features().content


@pytest.mark.parametrize(
    "changes",
    [{"max_length": 9}, {"pad_id": 3}, {"columns": ("input_ids",)}],
    ids=lambda c: next(iter(c)),
)
def test_every_setting_is_in_the_digest(changes: dict[str, Any]) -> None:
    assert features(**changes).content != features().content


def test_the_vocabulary_is_in_the_digest() -> None:
    other = tokenizer()
    other.add_tokens(["bird"])
    assert TextFeatures(other.to_str(), max_length=8).content != features().content


def test_a_lone_surrogate_is_tokenised_and_not_an_error() -> None:
    ids, _ = features().computation().run([["a \ud800 dog"]])
    assert len(ids[0]) == 3


def test_an_unknown_column_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="a tokenizer gives input_ids"):
        features(columns=("labels",))
