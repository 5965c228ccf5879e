import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress

KEY = jax.random.key(3)


def payload_of(u, **options):
    compressor = compress.quantize(key=KEY, **options)
    return compressor.compress(u, compressor.init(u))[0]


def draws_of(u, count, **options):
    compressor = compress.quantize(key=KEY, **options)
    keys = jax.random.split(jax.random.key(1), count)
    return jax.jit(
        jax.vmap(lambda key: compressor.compress_leaf(u, (), jnp.int32(0), key)[0].to_dense())
    )(keys)


def test_levels_next_to_the_exact_value():
    u = jnp.array([3.0, -4.0, 0.0, 1.0, 1.0, 1.0, 1.0])
    payload = payload_of(u, levels=10, bucket=3)
    np.testing.assert_allclose(payload.norms, [5, np.sqrt(3), 1], rtol=1e-6)
    assert payload.levels.tolist()[:3] == [6, -8, 0] and payload.levels.tolist()[6] == 10
    assert set(payload.levels.tolist()[3:6]) <= {5, 6}  # 10 / sqrt(3) = 5.77
    np.testing.assert_allclose(payload.to_dense()[:3], u[:3], rtol=1e-6)


@pytest.mark.parametrize(
    ("levels", "dtype", "bits"),
    [
        (1, "int8", 2),
        (127, "int8", 8),
        (128, "int16", 9),
        (32767, "int16", 16),
        (40000, "int32", 17),
    ],
)
def test_smallest_integers_and_bits(levels, dtype, bits):
    payload = payload_of(jnp.ones((10, 30)), levels=levels)
    assert payload.levels.dtype == dtype
    assert int(payload.payload_bits()) == 300 * bits + 3 * 32


@pytest.mark.parametrize("levels", [1, 4])
def test_unbiased_with_bounded_variance(levels):
    u = jnp.asarray(np.random.default_rng(0).standard_normal((6, 5)), jnp.float32)
    count, bucket = 6000, 16
    sent = np.asarray(draws_of(u, count, levels=levels, bucket=bucket), np.float64)
    flat = np.asarray(u, np.float64).ravel()
    norms = np.repeat([np.linalg.norm(flat[:16]), np.linalg.norm(flat[16:])], 16)[:30]
    exact = levels * np.abs(flat) / norms
    part = exact - np.floor(exact)
    variance = (norms / levels) ** 2 * part * (1 - part)
    error = np.abs(sent.reshape(count, -1).mean(0) - flat)
    assert (error <= 5 * np.sqrt(variance / count) + 1e-5).all()
    measured = ((sent.reshape(count, -1) - flat) ** 2).mean(0)
    assert measured.sum() == pytest.approx(variance.sum(), rel=0.05)
    bound = min(16 / levels**2, 4 / levels) * (flat**2).sum()
    assert measured.sum() <= bound


@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e-30, 1.0, 1e30])
def test_no_scale_makes_a_nan(scale):
    u = jnp.full((300,), scale).at[:128].set(0)
    dense = payload_of(u).to_dense()
    assert not dense[:128].any()
    if scale > 1e-37:
        np.testing.assert_allclose(dense[128:], scale, rtol=0.2)
    assert jnp.isfinite(dense).all()


def test_the_only_entry_of_a_bucket_is_exact():
    u = jnp.asarray(np.random.default_rng(1).standard_normal(20), jnp.float32)
    np.testing.assert_allclose(payload_of(u, levels=3, bucket=1).to_dense(), u, rtol=1e-6)


def test_workers_round_by_themselves_if_told_the_axis():
    u = jnp.ones((2, 400))

    def sent(axis_name):
        compressor = compress.quantize(levels=3, key=KEY, axis_name=axis_name)
        state = compressor.init(u[0])
        return jax.vmap(lambda u: compressor.compress(u, state)[0].to_dense(), axis_name="workers")(
            u
        )

    assert (sent(None)[0] == sent(None)[1]).all()
    assert (sent("workers")[0] != sent("workers")[1]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 0}, "levels=0"),
        ({"levels": 2**24}, "levels=16777216"),
        ({"bucket": 0}, "bucket=0"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        compress.quantize(key=KEY, **options)
