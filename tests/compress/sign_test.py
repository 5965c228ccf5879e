import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress

GOLDEN = [0.5, -2, 0.1, 3, -1.5, 0, 1, -0.2]


def payload_of(compressor, u):
    u = jnp.asarray(u, jnp.float32)
    return compressor.compress(u, compressor.init(u))[0]


def vote(gradients, **options):
    """Updates of all workers, who must agree, and their states."""
    tx = compress.exchange(compress.sign(**options), compress.no_memory(), axis_name="workers")
    g = jnp.asarray(gradients, jnp.float32)
    states = jax.vmap(lambda row: tx.init(jnp.zeros_like(row)))(g)
    updates, states = jax.jit(jax.vmap(tx.update, axis_name="workers"))(g, states)
    np.testing.assert_array_equal(updates, np.broadcast_to(updates[:1], updates.shape))
    return updates[0].tolist(), states


def test_one_bit_an_entry_and_zero_is_positive():
    payload = payload_of(compress.sign(), GOLDEN)
    assert payload.to_dense().tolist() == [1, -1, 1, 1, -1, 1, 1, -1]
    assert int(payload.payload_bits()) == 8
    assert not payload_of(compress.sign(), np.zeros(8)).to_dense().any()


def test_the_majority_wins_whatever_the_magnitudes():
    gradients = [[9.0, 1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -5.0, 1.0]]
    assert vote(gradients)[0] == [-1, 1, -1]


def test_a_tie_is_positive_and_no_vote_at_all_is_zero():
    assert vote([[1.0, -1.0], [-2.0, -3.0]])[0] == [1, -1]
    assert vote([[0.0, 0.0], [0.0, 0.0]])[0] == [0, 0]


def test_who_has_nothing_finite_to_say_has_no_vote():
    update, states = vote([[np.nan, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    assert update == [-1, -1]  # With its vote the second would be tied.
    assert states.nonfinite.tolist() == [1, 0, 0, 0]


def test_signum_is_the_sign_of_a_running_mean():
    rng = np.random.default_rng(0)
    compressor = compress.sign(momentum=0.9)
    state, m = compressor.init(jnp.zeros(6)), np.zeros(6)
    for _ in range(4):
        g = rng.standard_normal(6).astype(np.float32)
        payload, state = compressor.compress(jnp.asarray(g), state)
        m = 0.9 * m + 0.1 * g
        np.testing.assert_array_equal(payload.to_dense(), np.where(m >= 0, 1, -1))
        np.testing.assert_allclose(state.leaves[0], m, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_momentum_out_of_range(momentum):
    with pytest.raises(ValueError, match=f"momentum={momentum}: must lie in"):
        compress.sign(momentum)


def test_scaled_sign_is_a_contraction_by_its_formula():
    payload = payload_of(compress.scaled_sign(), GOLDEN)
    scale = 8.3 / 8
    expected = scale * np.array([1, -1, 1, 1, -1, 1, 1, -1])
    np.testing.assert_allclose(payload.to_dense(), expected, rtol=1e-6)
    assert int(payload.payload_bits()) == 8 + 32
    rng = np.random.default_rng(1)
    for kind in range(3):
        u = rng.standard_normal(50)
        u = [u, u**5, np.eye(50)[3]][kind]
        dense = np.asarray(payload_of(compress.scaled_sign(), u).to_dense(), np.float64)
        left, norm = ((u - dense) ** 2).sum(), (u**2).sum()
        assert left == pytest.approx(norm - np.abs(u).sum() ** 2 / 50, rel=1e-4)
        assert left <= (1 - 1 / 50) * norm * (1 + 1e-5)


def test_ef_sign_sgd_with_four_workers():
    """p = g + e, D = mean(|p|) sign(p), e <- p - D, update = mean of D."""
    rng = np.random.default_rng(2)
    tx = compress.exchange(compress.scaled_sign(), axis_name="workers")
    states = jax.vmap(tx.init)(jnp.zeros((4, 9)))
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    e = np.zeros((4, 9))
    for _ in range(3):
        g = rng.standard_normal((4, 9)).astype(np.float32)
        updates, states = step(jnp.asarray(g), states)
        p = g + e
        d = np.abs(p).mean(1, keepdims=True) * np.where(p >= 0, 1, -1)
        e = p - d
        for worker in range(4):
            np.testing.assert_allclose(updates[worker], d.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(states.memory.residual, e, rtol=1e-4, atol=1e-5)
    assert step._cache_size() == 1
