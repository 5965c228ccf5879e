import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress
from sparsetrain.payload import Dense

GRADIENT = np.array([1, -2, 0.5, 0.1, 0, 3, -0.2, 0.4])


def test_golden_trace_of_dgc():
    """methods.md 7.2: momentum .9, masking, k = 2 of 8, exact selection, g_t = t * g."""
    tx = compress.exchange(compress.top_k(0.25), compress.momentum_correction(0.9))
    params = jnp.zeros(8)
    state = tx.init(params)
    sent = [{1: -2, 5: 3}, {1: -4, 5: 6}, {0: 9.51, 5: 9.0}]
    v = [
        [1, 0, 0.5, 0.1, 0, 0, -0.2, 0.4],
        [3.9, 0, 1.95, 0.39, 0, 0, -0.78, 1.56],
        [0, -6, 4.755, 0.951, 0, 0, -1.902, 3.804],
    ]
    u = [
        [1, 0, 0.5, 0.1, 0, 0, -0.2, 0.4],
        [2.9, 0, 1.45, 0.29, 0, 0, -0.58, 1.16],
        [0, -6, 2.805, 0.561, 0, 0, -1.122, 2.244],
    ]
    for t in range(3):
        updates, state = tx.update(jnp.asarray((t + 1) * GRADIENT, jnp.float32), state, params)
        expected = np.zeros(8)
        expected[list(sent[t])] = list(sent[t].values())
        np.testing.assert_allclose(updates, expected, rtol=1e-5)
        np.testing.assert_allclose(state.memory.accumulated, v[t], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.memory.velocity, u[t], rtol=1e-5, atol=1e-6)


def test_without_masking_the_velocity_stays():
    tx = compress.exchange(compress.top_k(0.25), compress.momentum_correction(0.9, masking=False))
    state = tx.init(jnp.zeros(8))
    _, state = tx.update(jnp.asarray(GRADIENT, jnp.float32), state)
    np.testing.assert_allclose(state.memory.velocity, GRADIENT, rtol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_what_is_sent_whole_has_ordinary_momentum(nesterov):
    memory = compress.momentum_correction(0.9, nesterov=nesterov)
    trace = optax.trace(0.9, nesterov=nesterov)
    params = jnp.zeros(3)
    state, expected_state = memory.init(params), trace.init(params)
    for t in range(4):
        g = jnp.arange(3.0) + t
        u, state = memory.compensate(g, state)
        state = memory.update(u, u, Dense(u), state)
        expected, expected_state = trace.update(g, expected_state)
        np.testing.assert_allclose(u, expected, rtol=1e-6)


def test_density_one_with_masking_off_is_momentum_sgd():
    params = {"w": jnp.zeros(5)}
    ours = optax.chain(
        compress.exchange(compress.top_k(1.0), compress.momentum_correction(0.9, masking=False)),
        optax.sgd(0.1),
    )
    plain = optax.sgd(0.1, momentum=0.9)
    states = [ours.init(params), plain.init(params)]
    for t in range(4):
        g = {"w": jnp.arange(5.0) - t}
        (a, states[0]), (b, states[1]) = (
            tx.update(g, state, params) for tx, state in zip((ours, plain), states, strict=True)
        )
        np.testing.assert_allclose(a["w"], b["w"], rtol=1e-6)


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_out_of_range(momentum):
    with pytest.raises(ValueError, match=f"momentum={momentum}"):
        compress.momentum_correction(momentum)


OPTIMIZERS = {
    "adam": (optax.adam(0.1), 1, 2),
    "lion": (optax.lion(0.1), 1, 1),
    "momentum": (optax.sgd(0.1, momentum=0.9), 1, 1),
    "rmsprop": (optax.rmsprop(0.1), 0, 1),
    "amsgrad": (optax.amsgrad(0.1), 1, 3),
    "plain": (optax.sgd(0.1), 0, 0),
    "injected": (optax.inject_hyperparams(optax.adam)(learning_rate=0.1), 1, 2),
    "chained": (optax.chain(optax.clip(1.0), optax.adamw(0.1)), 1, 2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("which", ["first", "all"])
def test_moments_of_any_optimizer_are_masked(name, which):
    tx, first, every = OPTIMIZERS[name]
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    sent = {"w": jnp.array([[True, False, False]] * 2), "b": jnp.array([False, True, False])}
    _, state = tx.update(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    masked = compress.mask_momentum(state, params, sent, which)
    assert jax.tree.structure(masked) == jax.tree.structure(state)
    changed = 0
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(masked), strict=True):
        if jnp.shape(old) in ((2, 3), (3,)) and bool(jnp.any(old != new)):
            at = sent["w"] if old.ndim == 2 else sent["b"]
            assert not jnp.any(jnp.where(at, new, 0)) and bool(
                jnp.all(jnp.where(at, 0, old == new) | at)
            )
            changed += 1
    assert changed == 2 * (first if which == "first" else every)


def test_which_may_be_a_function_and_nothing_else():
    params = jnp.ones(2)
    state = optax.adam(0.1).update(params, optax.adam(0.1).init(params))[1]
    chosen = compress.mask_momentum(
        state, params, jnp.array([True, True]), lambda path: path.endswith("nu")
    )
    assert not chosen[0].nu.any() and chosen[0].mu.all()
    with pytest.raises(ValueError, match="which='second'"):
        compress.mask_momentum(state, params, params, "second")
