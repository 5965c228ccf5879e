import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress

GOLDEN = [0.5, -2, 0.1, 3, -1.5, 0, 1, -0.2]


def payload_of(u):
    u = jnp.asarray(u, jnp.float32)
    compressor = compress.one_bit()
    return compressor.compress(u, compressor.init(u))[0]


def test_two_bins_two_means():
    payload = payload_of(GOLDEN)
    high, low = 4.6 / 5, -3.7 / 3
    expected = [high, low, high, high, low, high, high, low]
    np.testing.assert_allclose(payload.to_dense(), expected, rtol=1e-6)
    assert int(payload.payload_bits()) == 8 + 64


def test_the_error_is_what_the_means_leave():
    rng = np.random.default_rng(0)
    for _ in range(10):
        u = rng.standard_normal(40) + rng.standard_normal()
        dense = np.asarray(payload_of(u).to_dense(), np.float64)
        explained = sum(part.size * part.mean() ** 2 for part in (u[u >= 0], u[u < 0]) if part.size)
        assert ((u - dense) ** 2).sum() == pytest.approx((u**2).sum() - explained, rel=1e-4)
        assert ((u - dense) ** 2).sum() <= (1 - 1 / 40) * (u**2).sum()


@pytest.mark.parametrize("u", [[0.0, 0.0], [-1.0, -3.0], [2.0, 4.0], [5.0]])
def test_an_empty_bin_does_no_harm(u):
    np.testing.assert_allclose(payload_of(u).to_dense(), np.full(len(u), np.mean(u)))


def test_conserves_over_workers():
    rng = np.random.default_rng(1)
    tx = compress.exchange(compress.one_bit(), axis_name="workers")
    states = jax.vmap(tx.init)(jnp.zeros((4, 3, 5)))
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    fed, got = np.zeros((3, 5)), np.zeros((3, 5))
    for _ in range(4):
        g = jnp.asarray(rng.standard_normal((4, 3, 5)), jnp.float32)
        updates, states = step(g, states)
        fed, got = fed + g.mean(0), got + updates[0]
    np.testing.assert_allclose(fed, got + states.memory.residual.mean(0), rtol=1e-4, atol=1e-5)
    assert step._cache_size() == 1
