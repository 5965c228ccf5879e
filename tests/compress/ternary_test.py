import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress

KEY = jax.random.key(3)


def draws_of(compressor, u, count):
    """[count, ...] what receivers get, each with a key of its own."""
    keys = jax.random.split(jax.random.key(1), count)
    return jax.jit(
        jax.vmap(lambda key: compressor.compress_leaf(u, (), jnp.int32(0), key)[0].to_dense())
    )(keys)


def test_three_values_and_the_largest_is_certain():
    u = jnp.array([[0.5, -2.0, 0.1, 3.0], [-1.5, 0.0, 1.0, -0.2]])
    sent = np.asarray(draws_of(compress.ternary(KEY), u, 50))
    assert set(np.unique(sent)) == {-3, 0, 3}
    assert (sent[:, 0, 3] == 3).all() and (sent[:, 1, 1] == 0).all()
    assert ((sent == 0) | (np.sign(sent) == np.sign(u)[None])).all()
    payload, _ = compress.ternary(KEY).compress(u, compress.ternary(KEY).init(u))
    assert int(payload.payload_bits()) == 2 * 8 + 32
    assert payload.levels.dtype == jnp.int8


def test_unbiased_with_the_variance_of_its_formula():
    u = np.random.default_rng(0).standard_normal(30).astype(np.float32)
    count = 8000
    sent = draws_of(compress.ternary(KEY, clip=None), jnp.asarray(u), count)
    sent = np.asarray(sent, np.float64)
    s = np.abs(u).max()
    variance = np.abs(u) * (s - np.abs(u))
    assert (np.abs(sent.mean(0) - u) <= 5 * np.sqrt(variance / count) + 1e-6).all()
    assert ((sent - u) ** 2).mean(0).sum() == pytest.approx(variance.sum(), rel=0.05)


def test_clipping_is_all_the_bias():
    u = jnp.asarray([10.0] + [0.5] * 63)
    limit = 2.5 * np.sqrt(np.mean(np.asarray(u) ** 2))
    sent = np.asarray(draws_of(compress.ternary(KEY), u, 4000), np.float64)
    assert sent.max() == pytest.approx(limit, rel=1e-6) and limit < 10
    assert sent[:, 1:].mean() == pytest.approx(0.5, rel=0.03)


@pytest.mark.parametrize("value", [1e-30, 0.3, -1e30])
def test_a_constant_tensor_survives_clipping(value):
    u = jnp.full((4,), value)
    compressor = compress.ternary(KEY)
    payload, _ = compressor.compress(u, compressor.init(u))
    np.testing.assert_allclose(payload.to_dense(), u, rtol=1e-6)


def round_of(g, **options):
    compressor = compress.ternary(KEY, clip=None, **options)

    def one_round(u):
        payload, state = compressor.compress(u, compressor.init(u))
        done = compressor.aggregate(payload, u, state, "workers")
        return done.mean, done.accepted, payload.norms

    return jax.jit(jax.vmap(one_round, axis_name="workers"))(g)


def test_workers_share_a_scale_and_draw_for_themselves():
    g = jnp.stack([jnp.full((1000,), 0.5), jnp.full((1000,), 0.5), jnp.linspace(0, 2, 1000)])
    mean, accepted, norms = round_of(g, axis_name="workers")
    assert norms.ravel().tolist() == [2, 2, 2]
    grid = np.unique(np.asarray(mean))
    np.testing.assert_allclose(grid, np.round(grid / (2 / 3)) * (2 / 3), atol=1e-6)
    # Independent: both of two workers keep an entry with probability 1/16.
    both = np.mean((np.asarray(accepted[0]) != 0) & (np.asarray(accepted[1]) != 0))
    assert both == pytest.approx(1 / 16, abs=0.03)
    own = round_of(g, axis_name="workers", shared_scale=False)[2]
    assert own.ravel().tolist() == [0.5, 0.5, 2]
    assert round_of(g)[2].ravel().tolist() == [0.5, 0.5, 2]


def test_steps_draw_anew_and_compile_once():
    tx = compress.exchange(compress.ternary(KEY), compress.no_memory())
    state = tx.init(jnp.zeros(50))
    step = jax.jit(tx.update)
    g = jnp.linspace(-1, 1, 50)
    first, state = step(g, state)
    second, state = step(g, state)
    assert (first != second).any() and step._cache_size() == 1


def test_clip_must_be_positive():
    with pytest.raises(ValueError, match="clip=0: must be positive"):
        compress.ternary(KEY, clip=0)
