import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress, selection
from sparsetrain.compress import block_top_k
from tests.kernels import targets as kernel_targets


def dense_of(compressor, u):
    payload, _ = compressor.compress(u, compressor.init(u))
    return payload, compressor.decompress(payload)


def oracle(flat, k):
    """Exactly k by magnitude, ties to the lower index."""
    kept = np.argsort(-np.abs(flat), kind="stable")[:k]
    out = np.zeros_like(flat)
    out[kept] = flat[kept]
    return out


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["normal", "ties", "zeros"])
def test_per_tensor(density, kind):
    rng = np.random.default_rng(0)
    u = rng.standard_normal((17, 13)).astype(np.float32)
    u = {"normal": u, "ties": np.round(u), "zeros": 0 * u}[kind]
    payload, dense = dense_of(compress.top_k(density), jnp.asarray(u))
    k = selection.count(u.size, density)
    np.testing.assert_array_equal(dense, oracle(u.ravel(), k).reshape(u.shape))
    assert int(payload.count) == k
    assert np.all(np.diff(payload.indices) > 0)


def test_global_equals_the_concatenation():
    rng = np.random.default_rng(1)
    u = {
        "a": jnp.asarray(rng.standard_normal((30, 4)), jnp.float32),
        "b": jnp.asarray(10 * rng.standard_normal(50), jnp.float32),
        "c": jnp.asarray(0.001 * rng.standard_normal(7), jnp.float32),
        "d": jnp.zeros(()),
        "e": jnp.zeros((0,)),
    }
    payload, leaves = dense_of(compress.global_top_k(0.1), u)
    flat = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(u)])
    expected = oracle(flat, selection.count(flat.size, 0.1))
    np.testing.assert_array_equal(np.concatenate([np.ravel(leaf) for leaf in leaves]), expected)
    assert int(payload.counts.sum()) == selection.count(flat.size, 0.1)
    assert int(payload.counts[2]) == 0  # A tensor may get nothing.


def test_ties_across_leaves_go_to_the_first():
    u = [jnp.ones(3), jnp.ones(3)]
    _, leaves = dense_of(compress.global_top_k(0.5), u)
    assert [leaf.tolist() for leaf in leaves] == [[1.0] * 3, [0.0] * 3]


def test_block_by_block():
    u = jnp.arange(1.0, 11.0)
    _, dense = dense_of(compress.top_k(0.25, block=4), u)
    assert np.flatnonzero(dense).tolist() == [3, 7, 9]
    # A tensor of one block is plain top-k.
    _, small = dense_of(compress.top_k(0.5, block=100), u)
    np.testing.assert_array_equal(small, dense_of(compress.top_k(0.5), u)[1])


def test_contraction():
    rng = np.random.default_rng(2)
    for density in (0.05, 0.3):
        u = jnp.asarray(rng.standard_normal(200), jnp.float32)
        _, dense = dense_of(compress.top_k(density), u)
        assert jnp.sum((u - dense) ** 2) <= (1 - density) * jnp.sum(u**2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compress.top_k(0.1, block=0), "block=0"),
        (
            lambda: compress.top_k(
                compress.warm_up(0.5, 0.1, epochs=1, steps_per_epoch=1), block=4
            ),
            "leave one out",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("axis_name", [None, "workers"])
def test_one_pass_is_the_same_round(axis_name, monkeypatch):
    """Where a kernel runs the memory's part is done along with the selection; here its reference does it."""
    rng = np.random.default_rng(0)
    shapes = {"w": (3, 1024), "odd": (2, 1100), "b": (70,), "empty": (0,)}
    tx = compress.exchange(compress.top_k(0.02, block=1024), axis_name=axis_name)
    params = {name: jnp.zeros(shape) for name, shape in shapes.items()}

    def rounds():
        def step(state, gradients):
            updates, state = tx.update(gradients, state)
            return state, updates

        def run(gradients):
            return jax.lax.scan(step, tx.init(params), gradients)

        if axis_name is None:
            return jax.jit(run)(jax.tree.map(lambda g: g[0], gradients))
        return jax.jit(jax.vmap(run, axis_name=axis_name))(gradients)

    gradients = {
        name: jnp.asarray(rng.standard_normal((2, 5, *shape)), jnp.float32)
        for name, shape in shapes.items()
    }
    gradients["w"] = gradients["w"].at[0, 2, 0, 7].set(jnp.nan)  # that worker says nothing then
    state, updates = rounds()
    calls = []
    real = block_top_k.block_top_k_feedback

    def counted(*args, **kwargs):
        calls.append(args[0].shape)
        return real(*args, **kwargs)

    monkeypatch.setattr(block_top_k, "has_kernel", lambda: True)
    monkeypatch.setattr(block_top_k, "block_top_k_feedback", counted)
    fused_state, fused_updates = rounds()
    assert set(calls) == {(3072,), (2200,)}
    for found, wanted in zip(
        jax.tree.leaves((fused_state, fused_updates)),
        jax.tree.leaves((state, updates)),
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", kernel_targets.MESHES)
def test_on_an_accelerator_one_kernel_does_it(name):
    tx = compress.exchange(compress.top_k(0.01, block=4096))
    g = jnp.zeros(3 * 4096)
    calls = kernel_targets.custom_calls(name, lambda g: tx.update(g, tx.init(g))[0], g)
    assert calls.count(kernel_targets.CALLS[name]) == 1
