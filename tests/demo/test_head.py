from __future__ import annotations

import numpy as np
import pytest
import torch

from kvspark.demo.classifier import WIDTH
from kvspark.demo.head import is_held_out, train_head
from kvspark.errors import DataError


def rows(count: int, classes: int) -> tuple[np.ndarray, list[str]]:
    """Vectors of length 1 around one centre a class."""
    drawn = np.random.default_rng(0)
    centres = drawn.normal(size=(classes, WIDTH))
    chosen = drawn.integers(classes, size=count)
    vectors = centres[chosen] + 0.3 * drawn.normal(size=(count, WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), [f"class {number}" for number in chosen]


def test_a_head_learns_classes_that_can_be_told_apart():
    vectors, labels = rows(400, 5)
    trained = train_head(vectors[:300], labels[:300])
    with torch.inference_mode():
        result = trained.head(torch.from_numpy(vectors[300:]))
    accuracy = trained.accuracy(result["label_id"].numpy(), labels[300:])
    assert accuracy is not None
    assert accuracy > 0.95
    assert result["label_id"].dtype == torch.int64
    assert result["confidence"].dtype == torch.float32


def test_the_same_rows_give_the_same_head():
    vectors, labels = rows(200, 3)
    one, other = (train_head(vectors, labels).head.state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_vectors_that_cannot_be_written_to_are_fine():
    vectors, labels = rows(50, 2)
    vectors.flags.writeable = False
    assert train_head(vectors, labels).rows == 50


def test_more_rows_give_another_head():
    vectors, labels = rows(200, 3)
    one, other = (train_head(vectors[:n], labels[:n]).head.linear.weight for n in (150, 200))
    assert not torch.equal(one, other)


def test_a_class_that_was_never_learnt_counts_as_an_error():
    trained = train_head(*rows(50, 2))
    ids = np.zeros(2, dtype=np.int64)
    assert trained.accuracy(ids, [trained.classes[0], "never seen"]) == 0.5


def test_no_held_out_rows_have_no_accuracy():
    assert train_head(*rows(50, 2)).accuracy(np.zeros(0, dtype=np.int64), []) is None


def test_one_class_is_refused():
    with pytest.raises(DataError, match="two classes"):
        train_head(np.zeros((3, WIDTH), dtype=np.float32), ["a", "a", "a"])


def test_vectors_of_another_width_are_refused():
    with pytest.raises(DataError, match=r"\(2, 3\)"):
        train_head(np.zeros((2, 3), dtype=np.float32), ["a", "b"])


def test_a_fifth_of_the_ids_is_held_out_and_always_the_same():
    held = [is_held_out(f"dog%1:05:{number:02d}::") for number in range(5000)]
    assert 0.17 < sum(held) / len(held) < 0.23
    assert [is_held_out(f"dog%1:05:{number:02d}::") for number in range(3)] == held[:3]
