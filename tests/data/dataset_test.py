import numpy as np
import pytest

from sparsetrain.data import dataset


def split(count):
    return dataset.Split(
        np.arange(count, dtype=np.uint8).reshape(count, 1, 1, 1), np.arange(count, dtype=np.int32)
    )


@pytest.mark.parametrize(("count", "held"), [(12, 1), (23, 1), (24, 2), (120, 10)])
def test_the_last_twelfth_is_held_out(count, held):
    whole = dataset.hold_out(split(count), split(5))
    assert whole.train.labels.tolist() == list(range(count - held))
    assert whole.validation.labels.tolist() == list(range(count - held, count))
    for part in whole:
        np.testing.assert_array_equal(part.images[:, 0, 0, 0], part.labels)
    assert len(whole.test.labels) == 5


def test_too_few_examples():
    with pytest.raises(ValueError, match="11 training examples are too few"):
        dataset.hold_out(split(11), split(5))
