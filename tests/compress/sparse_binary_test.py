import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress

GOLDEN = [0.5, -2, 0.1, 3, -1.5, 0, 1, -0.2]


def compressed(u, density, variant="clamped"):
    compressor = compress.sparse_binary(density, variant=variant)
    u = jnp.asarray(u, jnp.float32)
    return compressor.compress(u, compressor.init(u))[0]


def oracle(u, k):
    """methods.md 3.3, the library definition, step by step."""
    u = np.asarray(u, np.float64)
    plus = np.argsort(-u, kind="stable")[:k]
    minus = np.argsort(u, kind="stable")[:k]
    s_plus = np.maximum(u[plus], 0).sum()
    s_minus = np.maximum(-u[minus], 0).sum()
    chosen, sign, total = (plus, 1, s_plus) if s_plus >= s_minus else (minus, -1, s_minus)
    positions = sorted(i for i in chosen if sign * u[i] > 0)
    s = np.zeros_like(u)
    if positions:
        s[positions] = sign * total / len(positions)
    return s, len(positions)


def test_golden_values():
    payload = compressed(GOLDEN, 0.25)
    s = payload.to_dense()
    assert s.tolist() == [0, 0, 0, 2, 0, 0, 2, 0]
    u = np.asarray(GOLDEN)
    np.testing.assert_allclose(u - s, [0.5, -2, 0.1, 1, -1.5, 0, -1, -0.2], rtol=1e-6)
    assert (u**2).sum() - ((u - s) ** 2).sum() == pytest.approx(8)
    wrong = compressed([5.0, -1, -1, -1], 0.5)
    assert wrong.to_dense().tolist() == [5, 0, 0, 0] and int(wrong.count) == 1
    literal = compressed([5.0, -1, -1, -1], 0.5, "literal")
    assert literal.to_dense().tolist() == [2, 2, 0, 0]


def test_laws_on_random_cases():
    rng = np.random.default_rng(0)
    compressors = [compress.sparse_binary(0.2, variant=v) for v in ("clamped", "literal")]
    run = jax.jit(lambda u: [c.compress(u, c.init(u))[0] for c in compressors])
    for case in range(300):
        u = rng.standard_normal(15) * rng.exponential(1, 15)
        u = {0: u, 1: np.round(u), 2: np.abs(u), 3: -np.abs(u)}[case % 4].astype(np.float32)
        clamped, literal = run(jnp.asarray(u))
        s = np.asarray(clamped.to_dense(), np.float64)
        expected, c = oracle(u, 3)
        np.testing.assert_allclose(s, expected, rtol=1e-5, atol=1e-6)
        assert int(clamped.count) == c <= 3
        left, norm = ((u - s) ** 2).sum(), (u.astype(np.float64) ** 2).sum()
        assert left == pytest.approx(norm - c * float(clamped.mean) ** 2, rel=1e-4, abs=1e-5)
        assert left <= (1 - 1 / (4 * 15)) * norm + 1e-6
        assert left <= ((u - np.asarray(literal.to_dense())) ** 2).sum() + 1e-5
        values = s[s != 0]
        assert np.unique(values).size <= 1


def test_where_both_sides_are_full_the_variants_agree():
    rng = np.random.default_rng(1)
    u = rng.standard_normal(200)
    np.testing.assert_allclose(
        compressed(u, 0.05).to_dense(), compressed(u, 0.05, "literal").to_dense(), rtol=1e-5
    )


@pytest.mark.parametrize("u", [[0.0, 0.0], [0.0], [-3.0], [2.0, 2.0, 2.0, 2.0]])
def test_edges(u):
    payload = compressed(u, 0.5)
    s, c = oracle(u, max(1, round(0.5 * len(u))))
    np.testing.assert_array_equal(payload.to_dense(), s)
    assert int(payload.count) == c
    if c == 0:
        assert float(payload.mean) == 0


def test_presets_are_local_steps():
    params = {"w": jnp.zeros(1000)}
    for preset, every in ((1, 1), (2, 10), (3, 100)):
        tx = compress.sbc(preset, optax.sgd(0.1))
        state = tx.init(params)
        step = jax.jit(tx.update)
        for _ in range(every):
            assert int(state.ledger.payload_bits) == 0
            _, state = step({"w": jnp.linspace(-1, 2, 1000)}, state, params)
        assert 32 < int(state.ledger.payload_bits) < 200
    with pytest.raises(ValueError, match="preset=4"):
        compress.sbc(4, optax.sgd(0.1))


def test_unknown_variant():
    with pytest.raises(ValueError, match="variant='exact'"):
        compress.sparse_binary(0.1, variant="exact")
