"""SBP: per example, by group, as a mask or as a union of columns."""

import jax
import jax.numpy as jnp
import meprop
import numpy as np
import pytest

from sparsetrain import backward


@pytest.mark.parametrize("outputs", [20, 400])  # mask form, union form
def test_rows_keep_their_own_top_k(outputs: int) -> None:
    rule = backward.top_k(3 / outputs)
    dh = jax.random.normal(jax.random.key(0), (4, outputs))
    chosen = rule.select(dh, None)
    assert chosen.is_compact == (outputs == 400)
    expected = np.stack([meprop.top(np.asarray(row), 3) for row in dh])
    np.testing.assert_array_equal(chosen.to_dense(outputs), expected)


@pytest.mark.parametrize("outputs", [16, 400])
def test_groups_keep_k_each(outputs: int) -> None:
    rule = backward.top_k(4 / outputs, groups=4)  # one of each quarter
    dh = jax.random.normal(jax.random.key(0), (3, outputs))
    kept = np.asarray(rule.select(dh, None).to_dense(outputs)).reshape(3, 4, -1)
    expected = [[meprop.top(np.asarray(g), 1) for g in r.reshape(4, -1)] for r in dh]
    np.testing.assert_array_equal(kept, expected)


def test_ties_keep_exactly_k() -> None:
    chosen = backward.top_k(0.5).select(jnp.ones((2, 4)), None)
    np.testing.assert_array_equal(chosen.to_dense(4), [[1, 1, 0, 0]] * 2)


def test_density_is_checked() -> None:
    with pytest.raises(ValueError, match="density=20: must lie in"):
        backward.top_k(20)
