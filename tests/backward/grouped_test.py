"""Grouped selection: its two limits, conservation, and what it refuses."""

import jax
import meprop
import numpy as np
import pytest

from sparsetrain import backward

DH = jax.random.normal(jax.random.key(0), (6, 40))
MEMORY = 0.3 * jax.random.normal(jax.random.key(1), (40,))


@pytest.mark.parametrize("decay", [0.8, "adaptive"])
def test_limits_are_unified_and_per_example(decay) -> None:
    for groups, other in (
        (1, backward.unified_top_k(0.1, decay)),
        (6, backward.memorized_top_k(0.1, decay)),
    ):
        ours = backward.grouped_top_k(0.1, groups, decay).select(DH, MEMORY)
        theirs = other.select(DH, MEMORY)
        np.testing.assert_array_equal(ours.to_dense(40), theirs.to_dense(40))
        np.testing.assert_allclose(ours.increment, theirs.increment, atol=1e-6)


def test_each_group_is_unified_for_itself() -> None:
    for density in (0.05, 0.2):  # union form, mask form
        chosen = backward.grouped_top_k(density, 3).select(DH, None)
        k = round(density * 40)
        expected = [meprop.unified(np.asarray(part), k) for part in np.split(np.asarray(DH), 3)]
        np.testing.assert_array_equal(chosen.to_dense(40), np.concatenate(expected))
        assert chosen.is_compact == (density == 0.05)


def test_conservation() -> None:
    chosen = backward.grouped_top_k(0.1, 3, 0.7).select(DH, MEMORY)
    left = chosen.to_dense(40).sum(0) + (MEMORY + chosen.increment) / 0.7
    np.testing.assert_allclose(left, DH.sum(0) + MEMORY, rtol=2e-5, atol=2e-5)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="row_groups=4: must divide the 6 rows"):
        backward.grouped_top_k(0.1, 4).select(DH, None)
    with pytest.raises(ValueError, match="row_groups=0"):
        backward.grouped_top_k(0.1, 0)
