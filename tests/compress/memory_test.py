import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sparsetrain import compress


def test_residual_conserves():
    memory = compress.residual()
    params = {"w": jnp.zeros(4), "b": jnp.zeros((), jnp.bfloat16)}
    state = memory.init(params)
    assert state.residual["b"].dtype == jnp.float32
    rng = np.random.default_rng(0)
    fed, sent = np.zeros(4), np.zeros(4)
    for _ in range(5):
        g = {"w": jnp.asarray(rng.standard_normal(4), jnp.float32), "b": jnp.bfloat16(1)}
        u, state = memory.compensate(g, state)
        accepted = jax.tree.map(lambda leaf: jnp.where(leaf > 0.5, leaf, 0), u)
        state = memory.update(u, accepted, None, state)
        fed, sent = fed + g["w"], sent + accepted["w"]
    np.testing.assert_allclose(fed, sent + state.residual["w"], atol=1e-6)


def test_decay_forgets():
    memory = compress.residual(decay=0.5)
    state = memory.update(jnp.array([4.0]), jnp.array([0.0]), None, None)
    assert memory.compensate(jnp.array([1.0]), state)[0].tolist() == [3.0]


@pytest.mark.parametrize("decay", [0.0, 1.5, -1.0])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=f"decay={decay}"):
        compress.residual(decay)


def test_what_is_fed_back_depends_on_the_place_in_the_chain():
    """With a falling rate, eta * g keeps old remainders at their old size, g does not."""
    rates = optax.piecewise_constant_schedule(1.0, {1: 0.1})
    params = jnp.zeros(2)
    first, second = jnp.array([3.0, 2.0]), jnp.array([0.0, 0.0])

    def second_update(tx):
        state = tx.init(params)
        _, state = tx.update(first, state, params)
        return tx.update(second, state, params)[0]

    exchange, sgd = compress.exchange(compress.top_k(0.5)), optax.sgd(rates)
    np.testing.assert_allclose(second_update(optax.chain(exchange, sgd)), [0, -0.2], rtol=1e-6)
    np.testing.assert_allclose(second_update(optax.chain(sgd, exchange)), [0, -2.0], rtol=1e-6)
