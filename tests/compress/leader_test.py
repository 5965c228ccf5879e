import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress


def run_of(memory, g):
    tx = compress.exchange(compress.leader_top_k(0.2), memory, axis_name="workers")
    states = jax.vmap(tx.init)(jnp.zeros_like(g))
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    return step, states


def test_workers_take_turns_and_nothing_is_lost():
    rng = np.random.default_rng(0)
    step, states = run_of(None, jnp.zeros((4, 15)))
    memory, fed, got = np.zeros((4, 15)), 0, 0
    for t in range(6):
        g = rng.standard_normal((4, 15)).astype(np.float32)
        updates, states = step(jnp.asarray(g), states)
        u = memory + g
        chosen = np.argsort(-np.abs(u[t % 4]), kind="stable")[:3]
        expected = np.zeros(15)
        expected[chosen] = u[:, chosen].mean(0)
        memory = u.copy()
        memory[:, chosen] = 0
        for worker in range(4):
            np.testing.assert_allclose(updates[worker], expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(states.memory.residual, memory, rtol=1e-4, atol=1e-5)
        fed, got = fed + g.mean(0), got + updates[0]
    np.testing.assert_allclose(fed, got + memory.mean(0), rtol=1e-4, atol=1e-5)
    assert step._cache_size() == 1


def test_alone_it_is_top_k():
    u = jnp.array([1.0, -3.0, 2.0, 0.0])
    ours, plain = (compress.exchange(c) for c in (compress.leader_top_k(0.5), compress.top_k(0.5)))
    np.testing.assert_array_equal(
        ours.update(u, ours.init(u))[0], plain.update(u, plain.init(u))[0]
    )


def test_a_round_without_its_leader_sends_nothing_and_forgets_nothing():
    step, states = run_of(None, jnp.zeros((4, 15)))
    g = jnp.ones((4, 15)).at[0, 3].set(jnp.inf)
    updates, states = step(g, states)
    assert not updates.any()
    assert states.memory.residual[:, 0].tolist() == [0, 1, 1, 1]
    updates, states = step(jnp.ones((4, 15)), states)  # The second leads: its memory is of use.
    assert np.count_nonzero(updates[0]) == 3
    assert updates[0][0] == pytest.approx((1 + 2 + 2 + 2) / 4)


def test_low_pass_by_hand():
    memory = compress.low_pass(0.1)
    m, state = np.zeros(3), memory.init(jnp.zeros(3))
    rng = np.random.default_rng(1)
    for _ in range(3):
        g, kept = rng.standard_normal(3).astype(np.float32), np.array([1, 0, 0], np.float32)
        u, state = memory.compensate(jnp.asarray(g), state)
        np.testing.assert_allclose(u, m + g, rtol=1e-5)
        state = memory.update(u, u * kept, None, state)
        m = m + 0.1 * (g - (m + g) * kept)
        np.testing.assert_allclose(state.residual, m, rtol=1e-5, atol=1e-6)


def test_low_pass_of_one_is_the_residual():
    u, accepted = jnp.array([2.0, 1.0]), jnp.array([2.0, 0.0])
    memory = compress.low_pass(1.0)
    assert memory.update(u, accepted, None, memory.init(u)).residual.tolist() == [0, 1]


def test_low_pass_goes_with_the_leader():
    g = jnp.asarray(np.random.default_rng(2).standard_normal((4, 15)), jnp.float32)
    step, states = run_of(compress.low_pass(0.5), g)
    for _ in range(2):
        updates, states = step(g, states)
    assert np.isfinite(updates).all() and np.isfinite(states.memory.residual).all()


@pytest.mark.parametrize("beta", [0.0, 1.5])
def test_beta_out_of_range(beta):
    with pytest.raises(ValueError, match=f"beta={beta}: must lie in"):
        compress.low_pass(beta)
