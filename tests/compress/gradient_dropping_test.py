import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress
from sparsetrain.payload import SparseTree

KEY = jax.random.key(3)


@functools.cache
def tree(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "a": jnp.asarray(rng.standard_normal((100, 50)), jnp.float32),
        "b": jnp.asarray(10 * rng.standard_normal(3000), jnp.float32),
        "c": jnp.zeros((0,)),
        "d": jnp.asarray(0.01 * rng.standard_normal(2000), jnp.float32),
    }


def sent(compressor, u):
    payload, _ = jax.jit(compressor.compress)(u, compressor.init(u))
    return payload, compressor.decompress(payload)


@pytest.mark.parametrize("key", [None, KEY])
def test_one_threshold_for_the_whole_tree(key):
    u = tree()
    payload, leaves = sent(compress.gradient_dropping(0.05, 0.2, key=key), u)
    assert isinstance(payload, SparseTree)
    count = int(payload.counts.sum())
    assert 0.7 * 500 < count < 1.3 * 500 and payload.counts.tolist()[2:] == [0, 0]
    kept = np.concatenate([np.ravel(leaf) for leaf in leaves])
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(u)])
    assert np.count_nonzero(kept) == count
    np.testing.assert_array_equal(
        kept, np.where(np.abs(flat) >= np.abs(kept[kept != 0]).min(), flat, 0)
    )


def test_a_threshold_for_each_tensor():
    compressor = compress.gradient_dropping(0.05, 0.2, scope="tensor", key=KEY)
    payloads, dense = sent(compressor, tree())
    for name in ("a", "b", "d"):
        size = tree()[name].size
        assert 0.6 * 0.05 * size < int(payloads[name].count) < 1.4 * 0.05 * size
        kept = np.asarray(dense[name])
        u = np.asarray(tree()[name])
        least = np.abs(kept[kept != 0]).min()
        np.testing.assert_array_equal(kept, np.where(np.abs(u) >= least, u, 0))


def test_a_sample_of_everything_is_top_k():
    u = jnp.asarray(np.random.default_rng(1).standard_normal(400), jnp.float32)
    _, dense = sent(compress.gradient_dropping(0.1, 1.0, scope="tensor"), u)
    kept = np.argsort(-np.abs(u))[:40]
    assert np.flatnonzero(dense).tolist() == sorted(kept.tolist())


def test_where_too_many_reach_it_the_largest_are_sent():
    # The evenly spread sample sees zeros only: all others reach the threshold.
    u = np.zeros(4000, np.float32)
    u[1::4] = np.linspace(1, 2, 1000)
    compressor = compress.gradient_dropping(0.05, 0.25, scope="tensor", slack=1.5, least=1)
    payload, dense = sent(compressor, jnp.asarray(u))
    assert int(payload.count) == 300
    assert np.asarray(dense).nonzero()[0].min() == 1 + 4 * 700


@pytest.mark.parametrize("scope", ["tree", "tensor"])
def test_conserves_over_workers_and_zeros_send_nothing(scope):
    tx = compress.exchange(compress.gradient_dropping(0.1, scope=scope, key=KEY), axis_name="w")
    zeros = {"a": jnp.zeros((4, 6, 5)), "b": jnp.zeros((4, 20))}
    states = jax.vmap(tx.init)(zeros)
    step = jax.jit(jax.vmap(tx.update, axis_name="w"))
    updates, states = step(zeros, states)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates))
    rng = np.random.default_rng(2)
    fed = got = jax.tree.map(lambda leaf: leaf[0], zeros)
    for _ in range(3):
        g = jax.tree.map(
            lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), jnp.float32), zeros
        )
        updates, states = step(g, states)
        fed = jax.tree.map(lambda a, b: a + b.mean(0), fed, g)
        got = jax.tree.map(lambda a, b: a + b[3], got, updates)
    held = jax.tree.map(lambda leaf: leaf.mean(0), states.memory.residual)
    for a, b, r in zip(*map(jax.tree.leaves, (fed, got, held)), strict=True):
        np.testing.assert_allclose(a, b + r, rtol=1e-4, atol=1e-5)
    assert step._cache_size() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scope": "layer"}, "scope='layer': choose one of"),
        ({"slack": 0.5}, "slack=0.5"),
        ({"least": 0}, "least=0"),
        ({"sample": 2.0}, "sample=2.0"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        compress.gradient_dropping(0.1, **options)
