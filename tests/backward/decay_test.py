"""The adaptive ratio: its formula, its limits, and the level it finds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import backward
from sparsetrain.backward.decay import decay_factor


def test_formula() -> None:
    received = jnp.array([[3.0, 4.0], [0.0, 1.0]])  # norms 5 and 1, mean 3
    share = jnp.array([[0.0, 4.0]])
    assert float(decay_factor("adaptive", received, share)) == pytest.approx(3 / 5)
    assert decay_factor(0.3, received, share) == 0.3


def test_limits() -> None:
    zeros, ones = jnp.zeros((2, 3)), jnp.ones((2, 3))
    assert float(decay_factor("adaptive", ones, zeros[:1])) == 1.0  # an empty memory is filled
    assert float(decay_factor("adaptive", zeros, ones[:1])) == 0.0  # nothing fresh, nothing kept
    assert float(decay_factor("adaptive", zeros, zeros[:1])) == 0.0  # and no 0 / 0


def test_memory_stays_bounded_where_a_fixed_ratio_near_one_lets_it_grow() -> None:
    """The same gradient again and again, of which one entry of 50 is sent."""
    dh = jnp.ones((4, 50)) + 0.01 * jax.random.normal(jax.random.key(0), (4, 50))
    norms = {}
    for decay in (0.99, "adaptive"):
        rule = backward.memorized_top_k(1 / 50, decay)
        memory = rule.init((50,))
        for _ in range(200):
            memory = memory + rule.select(dh, memory).increment
        norms[decay] = float(jnp.linalg.norm(memory / 4))
    fresh = float(jnp.linalg.norm(dh, axis=1).mean())
    assert np.isfinite(norms["adaptive"]) and norms["adaptive"] < 2 * fresh < norms[0.99]


def test_other_words_are_refused() -> None:
    for decay in ("auto", None, 1.0, -0.1):
        with pytest.raises(ValueError, match="or be 'adaptive'"):
            backward.memorized_top_k(0.1, decay)
