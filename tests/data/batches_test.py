import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import data

KEY = jax.random.key(3)


def batches(key, first, last, examples, size):
    return [
        np.asarray(data.batch_indices(key, step, examples, size)) for step in range(first, last)
    ]


@pytest.mark.parametrize(("examples", "size"), [(12, 4), (13, 4), (15, 4), (5, 5), (3, 1)])
def test_an_epoch_sees_every_example_at_most_once_and_drops_less_than_a_batch(examples, size):
    steps = data.steps_per_epoch(examples, size)
    for epoch in range(3):
        seen = np.concatenate(
            batches(KEY, epoch * steps, (epoch + 1) * steps, examples, size)
        ).tolist()
        assert len(seen) == len(set(seen)) == steps * size
        assert set(seen) <= set(range(examples))
        assert examples - len(seen) < size


def test_what_one_epoch_drops_another_sees():
    dropped = [
        set(range(7)) - set(np.concatenate(batches(KEY, 3 * epoch, 3 * epoch + 3, 7, 2)).tolist())
        for epoch in range(20)
    ]
    assert all(len(rest) == 1 for rest in dropped)
    assert len(set.union(*dropped)) > 3


def test_batches_are_slices_of_the_epochs_permutation():
    order = np.asarray(data.epoch_permutation(KEY, 2, 11))
    np.testing.assert_array_equal(np.sort(order), np.arange(11))
    steps = data.steps_per_epoch(11, 3)
    for turn in range(steps):
        np.testing.assert_array_equal(
            data.batch_indices(KEY, 2 * steps + turn, 11, 3), order[3 * turn : 3 * turn + 3]
        )


def test_a_resumed_run_sees_the_same_batches():
    whole = batches(KEY, 0, 9, 20, 6)
    resumed = batches(jax.random.key(3), 5, 9, 20, 6)
    np.testing.assert_array_equal(whole[5:], resumed)


def test_epochs_and_keys_differ():
    first, second = (data.epoch_permutation(KEY, epoch, 50) for epoch in (0, 1))
    other = data.epoch_permutation(jax.random.key(4), 0, 50)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_a_traced_step_gives_the_same_in_one_compilation():
    traces = []

    @jax.jit
    def traced(key, step):
        traces.append(None)
        return data.batch_indices(key, step, 13, 4)

    for step in range(7):
        found = traced(KEY, jnp.int32(step))
        np.testing.assert_array_equal(found, data.batch_indices(KEY, step, 13, 4))
        assert found.dtype == jnp.int32
    assert len(traces) == 1


def test_uniform_over_positions():
    # Each of 4 examples comes first in a quarter of 400 epochs; 5 standard deviations are 43.
    orders = jax.vmap(lambda epoch: data.epoch_permutation(KEY, epoch, 4))(jnp.arange(400))
    counts = np.bincount(orders[:, 0], minlength=4)
    assert np.abs(counts - 100).max() < 44


@pytest.mark.parametrize("size", [0, -1, 11])
def test_a_batch_that_does_not_fit(size):
    with pytest.raises(ValueError, match=rf"batch_size={size}: must lie in 1..10"):
        data.steps_per_epoch(10, size)
    with pytest.raises(ValueError, match="batch_size"):
        data.batch_indices(KEY, 0, 10, size)
