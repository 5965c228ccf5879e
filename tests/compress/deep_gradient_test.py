import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress
from sparsetrain.payload import Dense

GRADIENT = np.array([1, -2, 0.5, 0.1, 0, 3, -0.2, 0.4])
KEY = jax.random.key(3)


def test_golden_trace():
    """methods.md 7.2: momentum .9, masking, k = 2 of 8, exact selection, g_t = t * g."""
    tx = compress.deep_gradient(0.25)
    state = tx.init(jnp.zeros((2, 4)))
    step = jax.jit(tx.update)
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
        g = jnp.asarray((t + 1) * GRADIENT, jnp.float32).reshape(2, 4)
        updates, state = step(g, state)
        expected = np.zeros(8)
        expected[list(sent[t])] = list(sent[t].values())
        np.testing.assert_allclose(updates.ravel(), expected, rtol=1e-5)
        np.testing.assert_allclose(state.memory.accumulated.ravel(), v[t], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(state.memory.velocity.ravel(), u[t], rtol=1e-5, atol=1e-6)
    assert step._cache_size() == 1


@functools.cache
def program(density, resample=True, sample=0.01):
    """One compilation for all inputs: (u, key) -> payload."""
    compressor = compress.sampled_top_k(density, resample=resample, sample=sample)
    return jax.jit(lambda u, key: compressor.compress_leaf(u, (), jnp.int32(0), key)[0])


@pytest.mark.parametrize("resample", [True, False])
@pytest.mark.parametrize("kind", ["normal", "heavy", "sorted", "rounded"])
def test_about_k_of_the_largest(kind, resample):
    rng = np.random.default_rng(0)
    u = rng.standard_normal(20_000).astype(np.float32)
    u = {"normal": u, "heavy": u**7, "sorted": np.sort(u), "rounded": np.round(u, 1)}[kind]
    u = u.reshape(100, 200)
    payload = program(0.02, resample)(jnp.asarray(u), KEY)
    dense = np.asarray(payload.to_dense())
    k, count = 400, int(payload.count)
    assert 0.8 * k <= count <= k == payload.indices.shape[0]
    assert np.count_nonzero(dense) == count
    kept = np.abs(u[dense != 0])
    # The largest, so that every entry left out is no larger than any that is in.
    assert np.abs(u[dense == 0]).max() <= kept.min()
    np.testing.assert_array_equal(dense[dense != 0], u[dense != 0])


def test_a_sample_that_sees_too_little_is_mended():
    u = np.full((100, 200), 1e-3, np.float32)
    u[:, :3] = np.linspace(1, 2, 300).reshape(100, 3)
    # Only every 199th or so entry is seen: the threshold may be anything.
    for seed in range(3):
        payload = program(0.01, sample=0.005)(jnp.asarray(u), jax.random.key(seed))
        dense = np.asarray(payload.to_dense())
        assert 160 <= int(payload.count) <= 200
        assert dense[dense != 0].min() >= 1


def test_the_end_of_a_tensor_is_sent_as_often_as_its_beginning():
    u = jnp.asarray(np.random.default_rng(1).standard_normal((100, 200)), jnp.float32)
    keys = jax.random.split(KEY, 20)
    positions = np.stack([program(0.02)(u, key).to_dense() != 0 for key in keys])
    exact = np.abs(u) >= np.sort(np.abs(u), axis=None)[-320]
    assert positions[:, exact].all()  # The first by position would miss some of the last.


def test_fewer_than_two_dimensions_are_sent_whole_with_ordinary_momentum():
    tx = compress.deep_gradient(0.25)
    params = {"bias": jnp.zeros(4), "scale": jnp.zeros(())}
    g = {"bias": jnp.arange(4.0), "scale": jnp.float32(2.0)}
    state = tx.init(params)
    for factor in (1.0, 1.9):
        updates, state = tx.update(g, state)
        np.testing.assert_allclose(updates["bias"], factor * g["bias"], rtol=1e-6)
        np.testing.assert_allclose(updates["scale"], factor * 2, rtol=1e-6)
    compressor = compress.sampled_top_k(0.25)
    payloads, _ = compressor.compress(g, compressor.init(g))
    assert isinstance(payloads["bias"], Dense) and isinstance(payloads["scale"], Dense)


def workers(tx, g, rounds=1):
    states = jax.vmap(tx.init)(jax.tree.map(jnp.zeros_like, g))
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    for _ in range(rounds):
        updates, states = step(g, states)
    assert step._cache_size() == 1
    return updates, states


@pytest.mark.parametrize("known", [4, None])
def test_each_worker_clips_its_own_gradient(known):
    g = {
        "w": jnp.stack([jnp.full((2, 2), s) for s in (0.1, 1.0, 10.0, 0.0)]),
        "b": jnp.zeros((4, 1)),
    }
    tx = compress.deep_gradient(1.0, clip_norm=1.0, workers=known, axis_name="workers")
    updates, _ = workers(tx, g)
    # Norms .2, 2, 20 and 0; the limit is 1 / sqrt(4).
    expected = np.mean([0.1, 0.25, 0.25, 0.0])
    np.testing.assert_allclose(updates["w"], np.full((4, 2, 2), expected), rtol=1e-5)
    broken = {"w": g["w"].at[2, 0, 0].set(jnp.nan), "b": g["b"]}
    updates, states = workers(tx, broken)
    np.testing.assert_allclose(updates["w"], np.full((4, 2, 2), 0.35 / 3), rtol=1e-5)
    assert states[1].nonfinite.tolist() == [0, 0, 1, 0]


def test_conserves_without_momentum():
    g = jnp.asarray(np.random.default_rng(2).standard_normal((4, 10, 20)), jnp.float32)
    tx = compress.exchange(compress.sampled_top_k(0.1, key=KEY), axis_name="workers")
    states = jax.vmap(tx.init)(jnp.zeros_like(g))
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    got = 0
    for _ in range(3):
        updates, states = step(g, states)
        got = got + updates[0]
    held = states.memory.residual.mean(0)
    np.testing.assert_allclose(3 * g.mean(0), got + held, rtol=1e-4, atol=1e-5)


def test_warm_up_and_zeros():
    density = compress.warm_up(0.5, 0.25, epochs=1, steps_per_epoch=1)
    tx = optax.chain(compress.deep_gradient(density, 0.0, key=KEY), optax.sgd(1.0))
    state = tx.init(jnp.zeros((2, 4)))
    g = jnp.asarray(GRADIENT, jnp.float32).reshape(2, 4)
    step = jax.jit(tx.update)
    counts = []
    for offered in (0 * g, g, g):
        updates, state = step(offered, state)
        counts.append(np.count_nonzero(updates))
    assert counts == [0, 2, 2] and step._cache_size() == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compress.sampled_top_k(0.1, lower=1.0), "lower=1.0"),
        (lambda: compress.sampled_top_k(0.1, upper=1.0), "upper=1.0"),
        (lambda: compress.sampled_top_k(0.1, adaptations=-1), "adaptations=-1"),
        (lambda: compress.sampled_top_k(0.1, sample=0), "sample=0"),
        (lambda: compress.deep_gradient(0.1, clip_norm=0), "clip_norm=0"),
        (lambda: compress.deep_gradient(0.1, workers=0), "workers=0"),
        (lambda: compress.deep_gradient(0.1, momentum=1.0), "momentum=1.0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
