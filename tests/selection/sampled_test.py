"""The sampled threshold: exact of its sample, and off by as much as its docstring says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import selection


def test_full_sample_is_exact() -> None:
    values = jax.random.normal(jax.random.key(0), (1001,))
    got = selection.sampled_threshold(values, 0.1, 1.0)
    assert got == selection.kth_magnitude(values, selection.count(1001, 0.1))


def test_is_the_threshold_of_a_strided_sample() -> None:
    values = jax.random.normal(jax.random.key(0), (37, 27))
    got = selection.sampled_threshold(values, 0.05, 0.1)
    drawn = np.abs(np.asarray(values).reshape(-1)[:990:10])
    assert got == np.sort(drawn)[::-1][selection.count(99, 0.05) - 1]


def test_the_key_draws_the_offset() -> None:
    # Every fourth entry is large: a stride of 4 sees only those, or none of them.
    values = jnp.tile(jnp.array([9.0, 1.0, 1.0, 1.0]), 100)
    keys = jax.random.split(jax.random.key(0), 40)
    drawn = jax.jit(lambda key: selection.sampled_threshold(values, 0.5, 0.25, key))
    thresholds = jax.lax.map(drawn, keys)
    assert set(thresholds.tolist()) == {1.0, 9.0}
    assert 2 <= int((thresholds == 9.0).sum()) <= 20


def test_error_is_as_documented() -> None:
    density, fraction, size = 0.01, 0.1, 100_000
    keys = jax.random.split(jax.random.key(1), 40)

    def kept(key) -> jax.Array:
        values = jax.random.normal(key, (size,))
        at_least = jnp.abs(values) >= selection.sampled_threshold(values, density, fraction, key)
        return jnp.mean(at_least.astype(jnp.float32)) / density

    relative = jax.lax.map(kept, keys)
    expected = np.sqrt((1 - density) / (density * size * fraction))  # 10 %
    assert abs(float(relative.mean()) - 1) < 4 * expected / np.sqrt(40)
    assert 0.6 * expected < float(relative.std()) < 1.5 * expected


def test_small_arrays_and_refusals() -> None:
    assert selection.sampled_threshold(jnp.array([-2.0]), 0.001, 0.001) == 2.0
    with pytest.raises(ValueError, match="sample_fraction=0"):
        selection.sampled_threshold(jnp.ones(3), 0.1, 0)
    with pytest.raises(ValueError, match="empty"):
        selection.sampled_threshold(jnp.zeros((0,)), 0.1, 0.1)
