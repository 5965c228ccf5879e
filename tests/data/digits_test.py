import sys

import numpy as np
import pytest
from sklearn import datasets

from sparsetrain.data import digits


def test_shapes_types_and_counts():
    parts = digits.load()
    assert [len(part.labels) for part in parts] == [1257, 180, 360]
    for part in parts:
        assert part.images.shape == (len(part.labels), 8, 8, 1)
        assert (part.images.dtype, part.labels.dtype) == (np.uint8, np.int32)
        assert set(part.labels.tolist()) == set(range(10))
    assert (parts.train.images.min(), parts.train.images.max()) == (0, 255)


def test_the_parts_are_all_digits_once_and_keep_their_labels():
    bunch = datasets.load_digits()
    # Levels go back exactly: 16 steps of 255 / 16 are told apart after rounding.
    found = sorted(
        (bytes(np.rint(image * (16 / 255)).astype(np.uint8)), label)
        for part in digits.load()
        for image, label in zip(part.images, part.labels.tolist(), strict=True)
    )
    published = zip(bunch.images.astype(np.uint8), bunch.target.tolist(), strict=True)
    assert found == sorted((bytes(image), label) for image, label in published)


def test_the_split_never_changes():
    # A changed split would silently make old and new results incomparable.
    first = digits.load()
    np.random.seed(5)
    again = digits.load()
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert first.train.labels[:12].tolist() == [2, 8, 2, 6, 6, 7, 1, 9, 8, 5, 2, 8]


def test_without_scikit_learn_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"pip install 'sparsetrain\[train\]'"):
        digits.load()
