import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain.compress import regions


@pytest.mark.parametrize("used", [1, 5, 255, 256, 1000, 1024])
def test_quantiles_share_positions_out_evenly(used):
    rng = np.random.default_rng(used)
    positions = np.sort(rng.choice(5000, 1024, replace=False))
    found = np.asarray(regions.quantiles(jnp.asarray(positions, jnp.int32), jnp.int32(used), 5000))
    assert found[-1] == 5000
    for part in (0, 1, 100, 255):
        assert found[part] == positions[part * used // regions.PARTS]
    nothing = regions.quantiles(jnp.asarray(positions, jnp.int32), jnp.int32(0), 5000)
    assert (np.asarray(nothing) == 5000).all()


@pytest.mark.parametrize("workers", [1, 2, 3, 7, 64, 256, 1000])
def test_boundaries_of_any_number_of_workers(workers):
    size = 2**31 - 1  # whose products with anything overflow
    found = np.asarray(regions.boundaries(regions.even(size), workers), np.int64)
    exact = np.arange(1, workers) * size / workers
    assert found.shape == (workers - 1,)
    np.testing.assert_allclose(found, exact, atol=workers + 1)
    assert (np.diff(found) >= 0).all()


def test_the_mean_of_large_positions_does_not_overflow():
    own = jnp.array([[2**31 - 1], [2**31 - 3], [0], [2**31 - 5]])

    def mean(own, counts):
        return regions.consensus(own, counts, jnp.array([7]), "workers")

    many = jax.vmap(mean, axis_name="workers")
    counts = jnp.array([True, True, False, True])
    assert many(own, counts).tolist() == [[2**31 - 3]] * 4
    assert many(own, jnp.zeros(4, bool)).tolist() == [[7]] * 4


def test_entries_without_a_slot_come_first_another_time():
    positions = jnp.array([0, 2, 3, 8, 9, 50, 50])
    waiting = set(range(3))
    for turn in range(3):
        found = regions.slots(positions, jnp.int32(5), jnp.array([5, 8]), 2, jnp.int32(turn))
        assert found.shape == (3, 2)
        assert found[1:].tolist() == [[7, 7], [3, 4]]  # nothing lies in the second region
        assert len(set(found[0].tolist())) == 2
        waiting -= set(found[0].tolist())
    assert not waiting
    late = regions.slots(positions, jnp.int32(3), jnp.array([1, 3]), 2, jnp.int32(2**30))
    assert late[0].tolist() == [0, 7] and sorted(late[1].tolist()) == [1, 7]
