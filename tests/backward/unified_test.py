"""Unified selection: shared columns, scores, blocks, and the memory that is zero on the columns just used."""

import jax
import jax.numpy as jnp
import meprop
import numpy as np
import pytest

from sparsetrain import backward


def test_columns_are_those_of_meprop_unified() -> None:
    dh = jax.random.normal(jax.random.key(0), (6, 30))
    chosen = backward.unified_top_k(0.2).select(dh, None)
    np.testing.assert_allclose(chosen.to_dense(30), meprop.unified(np.asarray(dh), 6))


def test_memory_is_zero_on_the_columns_just_used() -> None:
    rule = backward.unified_top_k(0.2, 0.9)
    memory = jax.random.normal(jax.random.key(1), (30,))
    chosen = rule.select(jax.random.normal(jax.random.key(0), (6, 30)), memory)
    new = memory + chosen.increment
    np.testing.assert_allclose(new[chosen.kept], 0, atol=1e-6)
    assert np.count_nonzero(np.abs(new) > 1e-6) == 24


def test_l2_keeps_its_share_of_the_squared_mass() -> None:
    dh = jax.random.laplace(jax.random.key(0), (6, 30))
    chosen = backward.unified_top_k(0.2, score="l2").select(dh, None)
    assert jnp.sum(chosen.values**2) >= 0.2 * jnp.sum(dh**2)


def test_blocks_are_kept_whole() -> None:
    rule = backward.unified_top_k(0.25, block=4)
    chosen = rule.select(jax.random.normal(jax.random.key(0), (6, 32)), None)
    assert chosen.values.shape == (6, 8)
    assert set(np.asarray(chosen.kept) // 4) == {int(b) for b in np.asarray(chosen.kept[::4]) // 4}


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="score='max'"):
        backward.unified_top_k(0.1, score="max")
    with pytest.raises(ValueError, match="block=0"):
        backward.unified_top_k(0.1, block=0)
    with pytest.raises(ValueError, match="block=7: must divide the layer's 30 outputs"):
        backward.unified_top_k(0.1, block=7).init((30,))
