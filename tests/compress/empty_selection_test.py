"""Rounds in which one worker, or nobody, has anything to say."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress
from tests.compress.contract_test import NAMES, NEVER_SILENT, NOT_THE_MEAN, make

WORKERS = 2
SHAPES = {"matrix": (6, 8), "vector": (10,)}


@functools.cache
def program(compressor):
    """Two workers' first state, and their compiled round."""
    tx = compress.exchange(compressor, axis_name="workers")
    zeros = {name: jnp.zeros((WORKERS, *shape)) for name, shape in SHAPES.items()}
    return zeros, jax.vmap(tx.init)(zeros), jax.jit(jax.vmap(tx.update, axis_name="workers"))


def one_speaks():
    """Gradients of which only the last worker's are not zero."""
    rng = np.random.default_rng(0)
    found = {}
    for name, shape in SHAPES.items():
        found[name] = np.zeros((WORKERS, *shape), np.float32)
        found[name][-1] = rng.standard_normal(shape)
    return found


def assert_conserved(fed, updates, state):
    """What was applied and what is remembered make up what was fed."""
    for g, u, r in zip(*map(jax.tree.leaves, (fed, updates, state.memory.residual)), strict=True):
        assert (np.asarray(u) == np.asarray(u)[0]).all()
        np.testing.assert_allclose(u[0] + r.mean(0), g.mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_zeros_stay_zeros_and_finite(name):
    zeros, state, step = program(make(name))
    updates, after = step(zeros, state)
    for leaf in jax.tree.leaves((updates, after)):
        assert np.isfinite(leaf).all()
    assert not after.nonfinite.any()
    if name not in NEVER_SILENT:
        assert not any(np.any(leaf) for leaf in jax.tree.leaves((updates, after.memory)))
    # Nor does it matter later: they have a gradient again.
    fed = one_speaks()
    updates, after = step(fed, after)
    for leaf in jax.tree.leaves((updates, after)):
        assert np.isfinite(leaf).all()
    assert np.any(updates["matrix"])
    if name not in NOT_THE_MEAN:
        assert_conserved(fed, updates, after)


@pytest.mark.parametrize(
    ("compressor", "selects"),
    [
        (compress.hard_threshold(1e9), 0),
        (compress.top_k(1e-9), 1),
        (compress.sparse_binary(1e-9), 1),
    ],
)
def test_of_each_tensor_one_entry_or_none(compressor, selects):
    _, state, step = program(compressor)
    fed = one_speaks()
    updates, after = step(fed, state)
    for name, update in updates.items():
        assert np.count_nonzero(update[0]) == selects
        if not selects:
            np.testing.assert_array_equal(after.memory.residual[name], fed[name])
    assert_conserved(fed, updates, after)
    assert (np.asarray(after.ledger.wire_bytes.low) > 0).all()
