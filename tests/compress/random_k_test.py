import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sparsetrain import compress, wire

KEY = jax.random.key(3)


def draws_of(compressor, u, count):
    keys = jax.random.split(jax.random.key(1), count)
    return np.asarray(
        jax.jit(
            jax.vmap(lambda key: compressor.compress_leaf(u, (), jnp.int32(0), key)[0].to_dense())
        )(keys),
        np.float64,
    )


def test_every_position_is_equally_likely_and_the_rest_is_as_it_was():
    u = np.arange(1.0, 13.0).reshape(3, 4)
    count = 4000
    sent = draws_of(compress.random_k(0.25, KEY), jnp.asarray(u), count)
    assert ((sent == 0) | (sent == u)).all()
    assert ((sent != 0).sum((1, 2)) == 3).all()
    share = (sent != 0).mean(0)
    assert (np.abs(share - 0.25) <= 5 * np.sqrt(0.25 * 0.75 / count)).all()
    # A contraction in expectation: 1 - k / d of the square is left.
    left = ((sent - u) ** 2).sum((1, 2)).mean() / (u**2).sum()
    assert left == pytest.approx(0.75, abs=0.01)


def test_unbiased_if_scaled():
    u = np.random.default_rng(0).standard_normal(20)
    count = 4000
    sent = draws_of(compress.random_k(0.2, KEY, unbiased=True), jnp.asarray(u, jnp.float32), count)
    variance = (20 / 4 - 1) * u**2
    assert (np.abs(sent.mean(0) - u) <= 5 * np.sqrt(variance / count) + 1e-6).all()
    assert ((sent - u) ** 2).mean(0).sum() == pytest.approx(variance.sum(), rel=0.05)


def exchange_of_four(compressor, memory, rounds, g):
    tx = compress.exchange(compressor, memory, axis_name="workers")
    states = jax.vmap(tx.init)(jnp.zeros_like(g))
    step = jax.jit(jax.vmap(tx.update, axis_name="workers"))
    updates = []
    for _ in range(rounds):
        update, states = step(g, states)
        np.testing.assert_array_equal(update, np.broadcast_to(update[:1], update.shape))
        updates.append(np.asarray(update[0]))
    assert step._cache_size() == 1
    return updates, states


def test_workers_agree_on_positions_and_nothing_is_lost():
    g = jnp.asarray(np.random.default_rng(1).standard_normal((4, 30)), jnp.float32)
    updates, states = exchange_of_four(compress.random_k(0.1, KEY), None, 3, g)
    assert [np.count_nonzero(update) for update in updates] == [3, 3, 3]
    assert len({tuple(np.flatnonzero(update)) for update in updates}) > 1
    held = states.memory.residual.mean(0)
    np.testing.assert_allclose(3 * g.mean(0), sum(updates) + held, rtol=1e-4, atol=1e-5)
    # Values only: whoever has the key knows the positions.
    assert states.ledger.last_payload_bits.low.tolist() == [3 * 32] * 4


def test_who_is_silent_still_receives():
    g = jnp.ones((4, 10)).at[2, 0].set(jnp.nan)
    updates, states = exchange_of_four(compress.random_k(0.3, KEY), None, 1, g)
    assert sorted(updates[0].tolist()) == [0] * 7 + [1.0] * 3
    assert states.nonfinite.tolist() == [0, 0, 1, 0]
    assert states.ledger.last_payload_bits.low.tolist() == [96, 96, 0, 96]


def test_a_schedule_moves_the_count_and_the_scale():
    density = compress.scheduled(lambda step: jnp.where(step == 0, 0.5, 0.1), largest=0.5)
    g = jnp.ones((4, 10))
    updates, _ = exchange_of_four(
        compress.random_k(density, KEY, unbiased=True), compress.no_memory(), 2, g
    )
    assert sorted(updates[0].tolist()) == [0] * 5 + [2] * 5
    assert sorted(updates[1].tolist()) == [0] * 9 + [10]


@pytest.mark.parametrize("density", [0.1, compress.scheduled(lambda step: 0.05, largest=0.1)])
def test_a_receiver_with_the_same_key_reads_the_values(density):
    compressor = compress.random_k(density, KEY)
    rng = np.random.default_rng(2)
    theirs, own = (
        {"w": jnp.asarray(rng.standard_normal((8, 10)), jnp.float32), "b": jnp.full(20, x)}
        for x in (1.0, 2.0)
    )
    sent, mine = (compressor.compress(u, compressor.init(u))[0] for u in (theirs, own))
    message = wire.encode(sent)
    assert len(message) == 18 + sum(int(sent[name].wire_bytes()) for name in sent)
    received = wire.decode(message, like=mine)
    for name in sent:
        np.testing.assert_array_equal(received[name].to_dense(), sent[name].to_dense())
        assert int(sent[name].payload_bits()) == 32 * int(sent[name].count)
    with pytest.raises(ValueError, match="compressed with the same key"):
        wire.decode(message, like=jax.eval_shape(lambda: sent))
