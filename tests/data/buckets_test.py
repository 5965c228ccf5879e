import itertools

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparsetrain.data import buckets

LENGTHS = st.lists(st.integers(1, 20), min_size=1, max_size=40)


@given(LENGTHS, st.integers(1, 5), st.integers(1, 6), st.booleans())
def test_each_sequence_once_in_the_shortest_rows(lengths, batch_size, count, shuffled):
    bounds = buckets.bounds(lengths, count)
    assert bounds[-1] == max(lengths) and len(bounds) <= count
    key = jax.random.key(3) if shuffled else None
    seen = []
    for bucket in buckets.batches(lengths, batch_size, bounds, key, epoch=2):
        assert bucket.rows.shape == (batch_size,)
        rows = bucket.rows[bucket.rows >= 0]
        below = max((bound for bound in bounds if bound < bucket.length), default=0)
        assert all(below < lengths[row] <= bucket.length for row in rows)
        seen += rows.tolist()
    assert sorted(seen) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 4))
def test_no_other_bounds_leave_less_to_padding(lengths, count):
    def entries(bounds):
        return sum(min(bound for bound in bounds if bound >= length) for length in lengths)

    kinds = sorted(set(lengths))
    others = itertools.combinations(kinds[:-1], min(count, len(kinds)) - 1)
    least = min(entries((*other, kinds[-1])) for other in others)
    assert entries(buckets.bounds(lengths, count)) == least


def test_an_epoch_is_a_function_of_key_and_number():
    lengths = np.arange(1, 101)

    def rows(seed, epoch):
        found = buckets.batches(lengths, 4, (50, 100), jax.random.key(seed), epoch, whole=True)
        return np.stack([bucket.rows for bucket in found])

    np.testing.assert_array_equal(rows(0, 1), rows(0, 1))
    assert (rows(0, 1) != rows(0, 2)).any() and (rows(0, 1) != rows(1, 1)).any()
    assert rows(0, 0).shape == (24, 4) and rows(0, 0).min() >= 0
    # Buckets come in turns, not one after the other.
    assert np.any(np.diff((rows(0, 0) >= 50).all(1).astype(int)) < 0)


def test_rows_that_are_too_short_are_named():
    with pytest.raises(ValueError, match="sequence 1 of length 7 is longer than"):
        next(buckets.batches([3, 7], 1, (5,)))
    with pytest.raises(ValueError, match="does not fit into rows of length=2"):
        buckets.padded([np.arange(3)], 2)


def test_padding():
    sequences = [np.array([1, 2], np.int32), np.array([3], np.int32)]
    np.testing.assert_array_equal(buckets.padded(sequences), [[1, 2], [3, 0]])
    bucket = buckets.Bucket(np.array([1, -1, 0]), 3)
    expected = [[3, -1, -1], [-1, -1, -1], [1, 2, -1]]
    np.testing.assert_array_equal(bucket.take(sequences, -1), expected)
    assert buckets.padded([], 3).shape == (0, 3) and buckets.padded([]).dtype == np.int32
