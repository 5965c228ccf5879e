"""Random columns: new ones every step, other ones in every layer, the same in every call of a step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import backward

RULE = backward.random_k(0.25, key=5)
DH = jax.random.normal(jax.random.key(0), (4, 40))


def columns(rule, counter: float) -> list[int]:
    return sorted(rule.select(DH, jnp.float32(counter)).kept.tolist())


def test_draws_depend_on_step_layer_and_key() -> None:
    first = columns(RULE.at("a/kernel"), 0)
    assert first == columns(RULE.at("a/kernel"), 0)
    others = (
        columns(RULE.at("a/kernel"), 1),
        columns(RULE.at("b/kernel"), 0),
        columns(backward.random_k(0.25, key=6).at("a/kernel"), 0),
    )
    assert all(first != other for other in others)


def test_counter_counts_steps_however_rows_are_split() -> None:
    counter = RULE.init((40,))
    assert counter.shape == () and counter.dtype == jnp.float32
    assert float(RULE.select(DH, counter).increment) == 1.0
    parts = [RULE.select(DH[i : i + 1], counter, rows=4) for i in range(4)]
    assert sum(float(part.increment) for part in parts) == 1.0
    assert all(part.kept.tolist() == parts[0].kept.tolist() for part in parts)


def test_unbiased_in_the_mean() -> None:
    rule = backward.random_k(0.25, key=5, unbiased=True)
    dense = jax.vmap(lambda step: rule.select(DH, step).to_dense(40))
    estimates = dense(jnp.arange(3000, dtype=jnp.float32))
    # variance of one estimate is 3 dh^2; five standard errors
    error = np.abs(np.asarray(estimates.mean(0) - DH))
    assert np.all(error <= 5 * np.sqrt(3 / 3000) * np.abs(DH) + 1e-6)


def test_without_counter() -> None:
    with pytest.raises(ValueError, match="memory=None"):
        RULE.select(DH, None)
