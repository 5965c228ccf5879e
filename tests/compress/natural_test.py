import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress

KEY = jax.random.key(3)


def payload_of(u):
    compressor = compress.natural(KEY)
    u = jnp.asarray(u, jnp.float32)
    return compressor.compress(u, compressor.init(u))[0]


def test_powers_of_two_stay():
    u = np.array([[1.0, -0.5, 0.0], [2.0**-126, -(2.0**127), 1024.0]], np.float32)
    payload = payload_of(u)
    np.testing.assert_array_equal(payload.to_dense(), u)
    assert int(payload.payload_bits()) == 9 * 6


def test_neighbouring_powers_and_unbiased():
    u = jnp.array([1.5, -1.25, 3.9, 0.0, 1e-5, -1e10])
    count = 8000
    compressor = compress.natural(KEY)
    keys = jax.random.split(jax.random.key(1), count)
    sent = jax.jit(
        jax.vmap(lambda key: compressor.compress_leaf(u, (), jnp.int32(0), key)[0].to_dense())
    )(keys)
    sent, u = np.asarray(sent, np.float64), np.asarray(u, np.float64)
    low = np.where(u == 0, 0, 2.0 ** np.floor(np.log2(np.abs(np.where(u == 0, 1, u)))))
    assert ((np.abs(sent) == low) | (np.abs(sent) == 2 * low)).all()
    assert ((sent == 0) == (u == 0)).all() and (sent * u >= 0).all()
    variance = (np.abs(u) - low) * (2 * low - np.abs(u))
    assert (np.abs(sent.mean(0) - u) <= 5 * np.sqrt(variance / count) + 1e-6 * np.abs(u)).all()
    np.testing.assert_allclose(((sent - u) ** 2).mean(0), variance, rtol=0.2)
    assert (variance <= u**2 / 8 + 1e-12).all()


def test_the_largest_numbers_do_not_become_infinite():
    u = np.full(1000, np.finfo(np.float32).max)
    assert (payload_of(u).to_dense() == 2.0**127).all()


def test_subnormal_numbers_round_to_zero_or_the_smallest_normal():
    u = np.full(4000, 2.0**-127, np.float32)
    codes = np.asarray(payload_of(u).codes)
    assert set(codes.tolist()) == {0, 1}
    assert codes.mean() == pytest.approx(0.5, abs=0.05)


def test_an_exchange_of_four_workers_averages_and_compiles_once():
    g = jnp.asarray(np.random.default_rng(0).standard_normal((4, 500)), jnp.float32)
    tx = compress.exchange(
        compress.natural(KEY, axis_name="workers"), compress.no_memory(), axis_name="workers"
    )
    states = jax.vmap(tx.init)(jnp.zeros((4, 500)))
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    for _ in range(2):
        updates, states = step(g, states)
    np.testing.assert_array_equal(updates[0], updates[3])
    error, mean = updates[0] - g.mean(0), g.mean(0)
    # Independent errors: variance at most mean square / 8 / 4.
    assert 0 < float((error**2).mean()) <= float((g**2).mean()) / 8 / 4 * 1.2
    assert abs(float(jnp.sum(error * mean))) < 0.1 * float(jnp.sum(mean**2))
    assert step._cache_size() == 1
