import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress, wire
from sparsetrain.payload import Dense, LowRank

KEY = jax.random.key(0)


def alone(matrix, rank, rounds, **options):
    """What arrives in each round in which this matrix is offered; without memory."""
    tx = compress.exchange(compress.low_rank(rank, key=KEY, **options), compress.no_memory())
    state, step, updates = tx.init(matrix), jax.jit(tx.update), []
    for _ in range(rounds):
        update, state = step(matrix, state)
        updates.append(np.asarray(update, np.float64))
    assert step._cache_size() == 1
    return updates, state


def test_a_matrix_of_that_rank_arrives_whole():
    rng = np.random.default_rng(0)
    m = jnp.asarray(rng.standard_normal((20, 3)) @ rng.standard_normal((3, 30)), jnp.float32)
    np.testing.assert_allclose(alone(m, 3, 1)[0][0], m, atol=1e-4)
    # More directions than there are: the columns to spare do no harm.
    np.testing.assert_allclose(alone(m, 5, 2)[0][1], m, atol=1e-4)


def test_warm_start_finds_the_best_approximation():
    m = np.random.default_rng(1).standard_normal((20, 30)) * 0.9 ** np.arange(30)
    u, s, vt = np.linalg.svd(m)
    updates, _ = alone(jnp.asarray(m, jnp.float32), 2, 60)
    errors = [np.linalg.norm(m - update) for update in updates]
    assert all(error <= np.linalg.norm(m) for error in errors)
    assert errors[-1] == pytest.approx(np.sqrt((s[2:] ** 2).sum()), rel=0.01)
    assert errors[0] > 1.03 * errors[-1]  # The first guess is no good.
    del u, vt


def run_of_four(g, **options):
    tx = compress.exchange(compress.low_rank(2, key=KEY, **options), axis_name="workers")
    states = jax.vmap(tx.init)(jax.tree.map(jnp.zeros_like, g))
    return jax.jit(jax.vmap(tx.update, axis_name="workers")), states


def test_four_workers_are_one_with_the_mean_gradient():
    rng = np.random.default_rng(2)
    step, states = run_of_four(jnp.zeros((4, 12, 10)))
    single = compress.exchange(compress.low_rank(2, key=KEY))
    one, state = jax.jit(single.update), single.init(jnp.zeros((12, 10)))
    fed, got = 0, 0
    for _ in range(4):
        g = jnp.asarray(rng.standard_normal((4, 12, 10)), jnp.float32)
        updates, states = step(g, states)
        expected, state = one(g.mean(0), state)
        for worker in range(4):
            np.testing.assert_allclose(updates[worker], expected, atol=1e-3)
        np.testing.assert_array_equal(updates[0], updates[3])
        fed, got = fed + g.mean(0), got + updates[0]
    # The mean of the memories is what is missing.
    np.testing.assert_allclose(fed, got + states.memory.residual.mean(0), rtol=1e-3, atol=1e-4)
    q = states.compressor.leaves[0].q
    np.testing.assert_array_equal(q, np.broadcast_to(q[:1], q.shape))


def test_what_would_not_shrink_is_sent_whole():
    compressor = compress.low_rank(2, key=KEY)
    u = {
        "bias": jnp.ones(300),
        "convolution": jnp.ones((3, 3, 4, 16)),  # 36 x 16: 576 / (2 * 52) > 2
        "small": jnp.ones((6, 6)),  # 36 / 24 < 2
    }
    payloads, _ = compressor.compress(u, compressor.init(u))
    assert isinstance(payloads["bias"], Dense) and isinstance(payloads["small"], Dense)
    assert isinstance(payloads["convolution"], LowRank)
    assert int(payloads["convolution"].payload_bits()) == 32 * 2 * (36 + 16)
    np.testing.assert_allclose(payloads["convolution"].to_dense(), u["convolution"], atol=1e-4)
    wider = compress.low_rank(2, key=KEY, min_compression_rate=1.5)
    assert isinstance(wider.compress(u, wider.init(u))[0]["small"], LowRank)


def test_dense_rounds_first():
    g = jnp.asarray(np.random.default_rng(3).standard_normal((4, 12, 10)), jnp.float32)
    step, states = run_of_four(g, start_after=2)
    for t in range(4):
        updates, states = step(g, states)
        bits = states.ledger.last_payload_bits.low.tolist()
        if t < 2:
            np.testing.assert_allclose(updates[1], g.mean(0), rtol=1e-5, atol=1e-6)
            assert not states.memory.residual.any()
            assert bits == [32 * 120] * 4
        else:
            assert np.linalg.matrix_rank(updates[1], tol=1e-4) == 2
            assert states.memory.residual.any()
            assert bits == [32 * 2 * 22] * 4
    assert step._cache_size() == 1
    # The round that does not take place costs nothing.
    assert "conditional" in step.lower(g, states).compile().as_text()


def test_a_receiver_learns_which_part_was_sent():
    compressor = compress.low_rank(2, key=KEY, start_after=1)
    u = jnp.asarray(np.random.default_rng(4).standard_normal((12, 10)), jnp.float32)
    state = compressor.init(u)
    for bits in (32 * 120, 32 * 2 * 22):
        payload, state = compressor.compress(u, state)
        message = wire.encode(payload)
        assert int(payload.payload_bits()) == bits
        assert len(message) == 18 + int(payload.wire_bytes()) == 18 + 1 + bits // 8
        received = wire.decode(message, like=jax.eval_shape(lambda payload=payload: payload))
        assert wire.encode(received) == message
        np.testing.assert_allclose(received.to_dense(), payload.to_dense(), rtol=1e-6, atol=1e-6)


def test_zeros_leave_the_start_alone():
    compressor = compress.low_rank(2, key=KEY)
    tx = compress.exchange(compressor)
    state = tx.init(jnp.zeros((12, 10)))
    update, after = tx.update(jnp.zeros((12, 10)), state)
    assert not update.any()
    np.testing.assert_array_equal(after.compressor.leaves[0].q, state.compressor.leaves[0].q)
    # Of rank one: the second column has nothing to do, and is still there.
    _, after = tx.update(jnp.ones((12, 10)), after)
    assert jnp.all(jnp.linalg.norm(after.compressor.leaves[0].q, axis=0) > 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank=0"),
        ({"rank": 1, "start_after": -1}, "start_after=-1"),
        ({"rank": 1, "min_compression_rate": 0}, "min_compression_rate=0"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        compress.low_rank(key=KEY, **options)
